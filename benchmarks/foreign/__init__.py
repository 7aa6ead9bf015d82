"""Scripts about other people's software, run in an environment of their own."""
