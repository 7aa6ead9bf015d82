"""Images in: what an archive holds, how it is cut into shards, how an image is read."""
