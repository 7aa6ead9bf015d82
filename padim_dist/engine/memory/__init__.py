"""Memory and disk of tasks: how much fits, and what they need."""
