"""One module for each metric: a description, and a function that loads the computation."""
