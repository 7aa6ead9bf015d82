"""Clusters: local processes, GPUs, a Dask scheduler by address, Kubernetes."""
