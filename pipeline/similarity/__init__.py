"""Nearest neighbours by an index that is kept beside the latents."""
