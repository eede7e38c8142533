"""Latents of an output in the forms of other libraries: Arrow, polars, torch, memory maps."""
