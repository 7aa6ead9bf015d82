"""Retention: what goes from a workspace, what stays and why, and the removal."""
