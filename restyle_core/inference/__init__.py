"""Loaded models and the refinement loop."""
