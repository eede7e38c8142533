from .results.forms.arrow import latent_frame, latent_reader, latent_table
from .results.forms.memory_map import map_latents
from .results.forms.torch_dataset import LatentDataset
from .results.latents import read_latents
from .results.query import query

__all__ = [
    "LatentDataset",
    "latent_frame",
    "latent_reader",
    "latent_table",
    "map_latents",
    "query",
    "read_latents",
]
