"""Read and write model files: the project's own directories, and published checkpoints."""
