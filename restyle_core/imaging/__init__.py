"""Image decoding, preprocessing and encoding."""
