"""From a manifest row to pixels."""
