"""An identity model: its latent is the picture made small, its reconstruction the picture itself.

Its files are those of a tiny model; with ``PYTHONPATH`` set to :func:`site`'s folder, processes
compute the identity in its place, so that what a bench measures is everything but the model.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from restyle.core.checkpoints.directory import save_model
from restyle.core.checkpoints.weights import EncoderWeights, ModelWeights
from restyle.core.networks.config import Domain, EncoderKind
from restyle.core.networks.generator import Generator, GeneratorConfig
from restyle.core.networks.small_encoder import SmallBackboneEncoder, SmallEncoderConfig

SIDE = 256
N_STYLES, STYLE_DIM = 4, 512

_SITE = '''
import importlib.abc, importlib.util, sys

NAME = "restyle.core.inference.model"


class Identity(importlib.abc.MetaPathFinder):
    """Changes the model when it is imported, and costs those who do not import it nothing."""

    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def patched(module):
            execute(module)
            module.Model.encode = encode
            module.Model.synthesize = synthesize

        spec.loader.exec_module = patched
        return spec


def encode(model, x, current):
    model.seen = x
    return x[:, 0, ::8, ::4].reshape(len(x), 4, 512)


def synthesize(model, latents):
    seen = getattr(model, "seen", None)
    return latents.new_zeros(1, 3, 256, 256) if seen is None else seen


sys.meta_path.insert(0, Identity())
'''


def site(folder: Path) -> dict[str, str]:
    """What the environment of a process needs, so that it computes the identity."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def make_identity_model(directory: Path) -> Path:
    """Write the files of a model of 256x256 pictures that are not aligned."""
    torch.manual_seed(0)
    shape = GeneratorConfig((8, 8), style_dim=STYLE_DIM, z_dim=8, mapping_layers=1)
    config = SmallEncoderConfig(
        shape.n_styles,
        STYLE_DIM,
        3,
        (SIDE, SIDE),
        widths=(16, 16, 16, 16),
        depths=(1, 1, 1, 1),
        fine_width=16,
    )
    domain = Domain(name="identity", domain="church", image_size=(SIDE, SIDE), align=False)
    encoder = EncoderWeights(
        EncoderKind.SMALL_BACKBONE,
        SmallBackboneEncoder(config).state_dict(),
        torch.zeros(N_STYLES, STYLE_DIM),
    )
    weights = ModelWeights(domain, Generator(shape).state_dict(), {"identity": encoder}, "identity")
    save_model(weights, directory)
    return directory
