"""What the sections share."""
