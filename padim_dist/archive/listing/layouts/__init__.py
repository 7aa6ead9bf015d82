"""How the files of an archive are read as images: one module a layout."""
