"""The public functions, which the command line and the flows call."""
