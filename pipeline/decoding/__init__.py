"""Decoding of images into crops, in child processes."""
