"""What is known of pictures besides their pixels."""
