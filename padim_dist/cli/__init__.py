"""The command line: calls the public functions and prints their results."""
