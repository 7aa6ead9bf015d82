"""Listing an archive, sorting its rows and cutting them into shards. No torch."""
