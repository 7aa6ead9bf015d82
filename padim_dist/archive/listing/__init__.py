"""What an archive holds: listing, sorting, cutting into shards. No torch."""
