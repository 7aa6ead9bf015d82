"""Publishing: tables of the results for data platforms."""
