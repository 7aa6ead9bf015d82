"""Dask: cluster, workers, the fit and score passes. The only folder that imports it."""
