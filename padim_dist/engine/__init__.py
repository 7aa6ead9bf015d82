"""Dask: clusters, workers, and the passes of fit and score. Only this folder imports Dask."""
