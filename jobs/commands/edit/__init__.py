"""Commands that edit faces and find directions."""
