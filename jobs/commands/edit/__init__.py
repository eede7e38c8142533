"""Commands that edit faces and find editing directions."""
