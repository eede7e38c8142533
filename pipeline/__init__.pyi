from .results.latents import read_latents
from .results.query import query

__all__ = ["query", "read_latents"]
