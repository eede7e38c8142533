"""What stands in a list: entries as inputs, and which addresses they may have."""
