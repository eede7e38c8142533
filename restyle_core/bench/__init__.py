"""Benchmarks of inversion against a plain implementation and against single convolutions."""
