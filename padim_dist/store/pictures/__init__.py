"""Pictures that are part of a model."""
