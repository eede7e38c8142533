"""Model files: the project's own directories, and those that the authors published."""
