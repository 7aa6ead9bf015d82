"""Index, fit, score, evaluate, backfill."""
