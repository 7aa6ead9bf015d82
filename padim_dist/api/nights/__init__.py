"""Nightly audits, and which model they use."""
