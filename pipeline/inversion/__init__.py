"""Photographs to latents: plan, align, invert, and what is written of it."""
