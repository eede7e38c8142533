"""Estimate of a job: a random sample is inverted for real, and what it took is extrapolated."""
