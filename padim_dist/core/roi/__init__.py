"""Regions of interest: which patches of a picture are judged."""
