"""Comparison of methods of inversion on the same faces."""
