"""The archive: listing its images, cutting them into shards, reading an image."""
