"""Decoders, one module per image format."""
