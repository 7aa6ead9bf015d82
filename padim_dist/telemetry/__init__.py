"""Prometheus metrics: counted in each process, served by one of them."""
