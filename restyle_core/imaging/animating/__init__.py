"""Writing of moving pictures."""
