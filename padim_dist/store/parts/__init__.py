"""Parts of a fit: receipt, moments, and the embeddings of some images."""
