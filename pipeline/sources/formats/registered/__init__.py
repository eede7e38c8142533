"""One file for each format: how it is recognised, and functions that import its readers."""
