"""Converted networks of a workspace."""
