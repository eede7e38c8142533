"""Commands that train and convert models."""
