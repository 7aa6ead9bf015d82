"""Aligning images: references of groups, and where their images lie."""
