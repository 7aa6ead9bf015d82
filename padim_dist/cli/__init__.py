"""The command line: a thin shell around `api`."""
