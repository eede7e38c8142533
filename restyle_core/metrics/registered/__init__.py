"""One file for each metric: what it is, and a function that imports what computes it."""
