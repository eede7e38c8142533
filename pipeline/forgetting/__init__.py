"""Removal of inputs from an output and all that was made of it, for good."""
