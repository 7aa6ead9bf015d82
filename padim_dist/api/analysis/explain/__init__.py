"""Why an image has its score."""
