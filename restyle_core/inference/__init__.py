"""A model ready to run, and the refinement loop."""
