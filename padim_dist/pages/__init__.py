"""Reports, summaries and pictures for people."""
