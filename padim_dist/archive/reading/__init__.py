"""Reading images: from a manifest row to pixels."""
