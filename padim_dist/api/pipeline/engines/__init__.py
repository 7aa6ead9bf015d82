"""Engines of a fit: networks that are converted, and quantised on some of its images."""
