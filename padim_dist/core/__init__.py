"""The mathematics of PaDiM: torch and numpy only, no input or output, no engine."""
