"""Images that a fit uses: those of parts and windows, less what is taken out."""
