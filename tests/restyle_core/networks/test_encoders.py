"""The encoders against the published keys and against formulas written out anew."""

from __future__ import annotations

import math

import pytest
import torch

from restyle.core.checkpoints.weights import fit
from restyle.core.errors import CheckpointError
from restyle.core.networks.config import EncoderKind
from restyle.core.networks.encoders import Encoder, StyleEncoder, build_encoder, encoder_from_state
from restyle.core.networks.last_layer import LastLayerEncoder
from tests.restyle_core import plain
from tests.restyle_core.fabricate import IR_SE50, RESNET34, TINY, Fabricator

PUBLISHED = [kind for kind in EncoderKind if not kind.startswith(("Small", "Average"))]
ITERATIVE = [kind for kind in PUBLISHED if "Backbone" in kind]


def tiny(kind: EncoderKind, n_styles: int = 9) -> tuple[Encoder, plain.State]:
    in_channels = 6 if kind in ITERATIVE else 3
    state = Fabricator().encoder(kind, n_styles, in_channels=in_channels, **TINY)
    encoder = encoder_from_state(kind, state, n_styles)
    fit(encoder, state, "test")
    return encoder, state


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("n_styles", [14, 18])
def test_published_keys_and_shapes(kind: EncoderKind, n_styles: int) -> None:
    in_channels = 6 if kind in ITERATIVE else 3
    with torch.device("meta"):
        ours = build_encoder(kind, n_styles, in_channels=in_channels).state_dict()
    published = _MetaFabricator().encoder(kind, n_styles, in_channels=in_channels)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in published.items()}


class _MetaFabricator(Fabricator):
    """Keys and shapes without the cost of 200 million random numbers."""

    def normal(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> torch.Tensor:
        del std, mean
        return torch.empty(*shape, device="meta")

    def uniform(self, *shape: int, low: float, high: float) -> torch.Tensor:
        del low, high
        return torch.empty(*shape, device="meta")


def test_number_of_units_and_taps() -> None:
    with torch.device("meta"):
        ir_se, resnet = (
            build_encoder(kind, 18)
            for kind in (EncoderKind.GRADUAL_STYLE, EncoderKind.RESNET_GRADUAL_STYLE)
        )
    assert isinstance(ir_se, StyleEncoder)
    assert isinstance(resnet, StyleEncoder)
    assert (len(ir_se.body), len(resnet.body)) == (24, 16)
    # The feature pyramid's taps: body 6, 20, 23 and 6, 12, 15.
    for depths, taps in ((ir_se.shape.depths, (6, 20, 23)), (resnet.shape.depths, (6, 12, 15))):
        assert tuple(sum(depths[: stage + 1]) - 1 for stage in (1, 2, 3)) == taps
    assert (ir_se.shape.depths, resnet.shape.depths) == (IR_SE50, RESNET34)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_agrees_with_the_plain_formulas(kind: EncoderKind) -> None:
    encoder, state = tiny(kind)
    x = torch.rand(2, encoder.in_channels, 64, 64) * 2 - 1
    with torch.inference_mode():
        ours = encoder(x)
        expected = plain.encode(state, x, kind, TINY["depths"])
    assert expected.std() > 0.05
    # An encoder into W predicts one vector for all styles.
    expected = expected.expand_as(ours)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(256, 256), (192, 256), (64, 64), (48, 64)])
@pytest.mark.parametrize("kind", [EncoderKind.BACKBONE, EncoderKind.GRADUAL_STYLE])
def test_input_sizes(kind: EncoderKind, size: tuple[int, int]) -> None:
    n_styles = 2 * int(math.log2(1024)) - 2
    in_channels = 6 if kind in ITERATIVE else 3
    with torch.device("meta"):
        encoder = build_encoder(kind, n_styles, in_channels=in_channels)
        styles = encoder(torch.zeros(2, in_channels, *size))
    assert styles.shape == (2, 18, 512)


def test_e4e_adds_differences_up_to_its_stage() -> None:
    encoder, state = tiny(EncoderKind.PROGRESSIVE_BACKBONE)
    independent = encoder_from_state(EncoderKind.BACKBONE, state)
    fit(independent, state, "test")
    assert isinstance(encoder, StyleEncoder)
    x = torch.rand(2, 6, 64, 64) * 2 - 1
    with torch.inference_mode():
        rows, final = independent(x), encoder(x)
        encoder.progressive_stage = 3
        third = encoder(x)
    torch.testing.assert_close(final[:, 0], rows[:, 0])
    torch.testing.assert_close(final[:, 1:], rows[:, :1] + rows[:, 1:])
    torch.testing.assert_close(third[:, :4], final[:, :4])
    torch.testing.assert_close(third[:, 4:], rows[:, :1].expand(-1, 5, -1))


def test_statistics_of_batch_norm_are_those_of_the_weights() -> None:
    encoder, _ = tiny(EncoderKind.BACKBONE)
    x = torch.rand(3, 6, 64, 64) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_shape_is_read_from_the_weights(kind: EncoderKind) -> None:
    encoder, _ = tiny(kind)
    assert isinstance(encoder, StyleEncoder | LastLayerEncoder)
    assert (encoder.n_styles, encoder.style_dim) == (9, TINY["style_dim"])
    assert encoder.in_channels == (6 if kind in ITERATIVE else 3)
    assert encoder.shape.widths == TINY["widths"]
    assert encoder.shape.depths == TINY["depths"]


def test_foreign_weights_are_refused() -> None:
    _, state = tiny(EncoderKind.BACKBONE)
    with pytest.raises(CheckpointError, match="no ResNetBackboneEncoder"):
        encoder_from_state(EncoderKind.RESNET_BACKBONE, state)
    with pytest.raises(CheckpointError, match="no BackboneEncoder"):
        encoder_from_state(EncoderKind.BACKBONE, {})
