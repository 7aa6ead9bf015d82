"""Scoring shards of a run again, and comparing them with what is stored."""
