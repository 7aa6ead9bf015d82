"""Evaluation: metrics of scores, and how good flags are."""
