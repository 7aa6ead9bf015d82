"""The public functions: index, fit, score, evaluate, doctor, demo, and the readers.

The command line is a thin shell around these; flows call them too.
"""
