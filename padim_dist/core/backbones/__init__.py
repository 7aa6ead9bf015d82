"""Networks by the name of a backbone, and their feature maps."""
