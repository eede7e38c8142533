"""Execution of units: requests, rounds, device placement, and the stages of a worker."""
