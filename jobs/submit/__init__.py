"""Submission of a job to a cluster."""
