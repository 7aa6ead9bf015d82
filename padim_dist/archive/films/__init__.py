"""Films: names of their frames, how they are opened, which frames they have. No torch."""
