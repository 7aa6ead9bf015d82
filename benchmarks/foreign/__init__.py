"""Scripts that measure other projects, run in a separate environment."""
