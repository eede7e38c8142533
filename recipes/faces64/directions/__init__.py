"""Directions of faces64: labels, training, judges."""
