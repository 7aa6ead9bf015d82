"""The cluster that does the work: local processes, GPUs, or one that somebody else runs."""
