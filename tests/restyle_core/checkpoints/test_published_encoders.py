"""Checkpoints of every published encoder, at the published depth and input size.

Only the widths are a fraction of the published ones. The files are loaded as people load them, and
the latents are those of formulas that share nothing with the project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from restyle.core.inference.model import load_model
from restyle.core.inference.refinement import refine
from tests.restyle_core import plain
from tests.restyle_core.fabricate import IR_SE50, RESNET34, Fabricator, save

WIDTHS = (16, 32, 48, 64)
STYLE = 32

RESTYLE = (
    "BackboneEncoder",
    "ProgressiveBackboneEncoder",
    "ResNetBackboneEncoder",
    "ResNetProgressiveBackboneEncoder",
)
SINGLE = (
    "GradualStyleEncoder",
    "ResNetGradualStyleEncoder",
    "Encoder4Editing",
    "BackboneEncoderUsingLastLayerIntoW",
    "BackboneEncoderUsingLastLayerIntoWPlus",
)


def depths(kind: str) -> tuple[int, ...]:
    return RESNET34 if kind.startswith("ResNet") else IR_SE50


def published(kind: str, size: int, in_channels: int, dataset: str) -> dict[str, Any]:
    """A checkpoint; heads are scaled so that a step moves the latent by about one."""
    make = Fabricator(7)
    n_styles = 2 * (size.bit_length() - 1) - 2
    widths = tuple(max(8, 32 >> level) for level in range(n_styles // 2))
    decoder = make.generator(size, style_dim=STYLE, mapping=2, widths=widths)
    encoder = make.encoder(
        kind, n_styles, in_channels=in_channels, style_dim=STYLE, widths=WIDTHS, depths=depths(kind)
    )
    for key in encoder:
        if "linear." in key:
            encoder[key] *= 0.5 if kind.startswith("ResNet") else 0.1
    state = {f"encoder.{key}": value for key, value in encoder.items()}
    state |= {f"decoder.{key}": value for key, value in decoder.items()}
    options = {"encoder_type": kind, "output_size": size, "dataset_type": dataset}
    average = make.normal(n_styles, STYLE, std=0.5)
    return {"state_dict": state, "opts": options, "latent_avg": average}


# Cars have another input, of which maps are not square; generators are small and of several sizes.
CASES = [
    *((kind, 32, 6, "ffhq_encode") for kind in RESTYLE),
    *((kind, 32, 3, "ffhq_encode") for kind in SINGLE),
    ("BackboneEncoder", 16, 6, "cars_encode"),
    ("Encoder4Editing", 64, 3, "horse_encode"),
    ("GradualStyleEncoder", 16, 6, "church_encode"),
]


@pytest.mark.parametrize(("kind", "size", "in_channels", "dataset"), CASES)
@torch.inference_mode()
def test_latents_are_those_of_a_plain_implementation(
    kind: str, size: int, in_channels: int, dataset: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    content = published(kind, size, in_channels, dataset)
    model = load_model(save(content, tmp_path / "model.pt"), dtype="fp32", device="cpu")
    assert model.iterative == (in_channels == 6)
    height, width = model.config.image_size
    assert (height, width) == ((192, 256) if dataset == "cars_encode" else (256, 256))
    # Two steps of one kind, because the loop is the same for all, and these inputs take seconds.
    steps = 2 if kind == "BackboneEncoder" else 1
    x = torch.rand(1, 3, height, width) * 2 - 1
    ours = [step.latents for step in refine(model, x, steps)]

    encoder, decoder = (plain.sub(content["state_dict"], part) for part in ("encoder", "decoder"))
    average = content["latent_avg"]
    if model.iterative:
        rows = slice(size // 8, size * 7 // 8) if dataset == "cars_encode" else slice(None)
        expected = [
            latents
            for latents, _ in plain.refine(
                encoder, decoder, average, x, steps, kind=kind, depths=depths(kind), rows=rows
            )
        ]
    else:
        expected = [average + plain.encode(encoder, x, kind, depths(kind))]
    assert len(ours) == len(expected) == steps
    for mine, its in zip(ours, expected, strict=True):
        assert (its - average).std() > 0.01
        assert (mine - its).abs().max() < 1e-3
