"""Reads of S3 objects, by obstore or by s3fs."""
