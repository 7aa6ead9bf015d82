"""A small synthetic archive for demonstrations."""
