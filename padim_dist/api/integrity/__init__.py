"""Verification of runs: digests of files, and shards that are scored again."""
