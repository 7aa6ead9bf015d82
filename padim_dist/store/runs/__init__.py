"""Runs: their head, tables and arrays, and the compaction of their tables."""
