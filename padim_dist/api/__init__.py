"""The public functions.

The command line and the flows call them.
"""
