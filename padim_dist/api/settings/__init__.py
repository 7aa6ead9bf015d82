"""From a configuration to plans: where things are, what is asked for, what is there."""
