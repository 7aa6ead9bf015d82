"""The tables of the paper (arXiv 2011.08785), measured: `make paper DATA=...`."""
