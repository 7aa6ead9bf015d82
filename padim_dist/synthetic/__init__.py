"""A small archive drawn from nothing, to try everything out on."""
