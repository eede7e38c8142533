"""The encoders as they are run against the plain formulas, also where all is border."""

from __future__ import annotations

import pytest
import torch

from restyle.core.checkpoints.weights import fit
from restyle.core.inference.encoding.fused_encoder import (
    FusedEncoder,
    FusedLastLayerEncoder,
    prepare_encoder,
)
from restyle.core.networks.config import EncoderKind
from restyle.core.networks.convolution import Target
from restyle.core.networks.encoders import StyleEncoder, build_encoder, encoder_from_state
from restyle.core.networks.last_layer import LastLayerEncoder
from tests.restyle_core import plain
from tests.restyle_core.fabricate import TINY, Fabricator

PUBLISHED = [kind for kind in EncoderKind if not kind.name.startswith(("SMALL", "AVERAGE"))]
Published = StyleEncoder | LastLayerEncoder
CPU = torch.device("cpu")


def tiny(kind: EncoderKind, n_styles: int = 9) -> tuple[Published, plain.State]:
    in_channels = 6 if "Backbone" in kind else 3
    state = Fabricator().encoder(kind, n_styles, in_channels=in_channels, **TINY)
    encoder = encoder_from_state(kind, state, n_styles)
    fit(encoder, state, "test")
    assert isinstance(encoder, Published)
    return encoder, state


def folded(
    encoder: Published, dtype: torch.dtype = torch.float32
) -> FusedEncoder | FusedLastLayerEncoder:
    ready = prepare_encoder(encoder, Target(CPU, dtype))
    assert isinstance(ready, FusedEncoder | FusedLastLayerEncoder)
    return ready


def spread(kind: EncoderKind, size: tuple[int, int], batch: int = 2) -> torch.Tensor:
    x = torch.rand(batch, 6 if "Backbone" in kind else 3, *size) * 2 - 1
    return x.contiguous(memory_format=torch.channels_last)


# The last one has maps of one row, where every pixel lies on two borders.
@pytest.mark.parametrize("size", [(64, 64), (48, 64), (16, 96)])
@pytest.mark.parametrize("kind", PUBLISHED)
def test_agrees_with_the_plain_formulas(kind: EncoderKind, size: tuple[int, int]) -> None:
    encoder, state = tiny(kind)
    x = spread(kind, size)
    with torch.inference_mode():
        expected = plain.encode(state, x, kind, TINY["depths"])
        ours = folded(encoder)(x)
    assert expected.std() > 0.03
    assert ours.dtype == torch.float32
    # An encoder into W predicts one vector for all styles.
    torch.testing.assert_close(ours, expected.expand_as(ours), atol=1e-5, rtol=1e-4)


def test_a_norm_may_leave_nothing_of_a_channel_but_its_shift() -> None:
    kind = EncoderKind.BACKBONE
    encoder, state = tiny(kind)
    for weights in (state, encoder.state_dict()):
        weights["body.2.res_layer.0.weight"][5] = 0
    x = spread(kind, (64, 64))
    with torch.inference_mode():
        expected = plain.encode(state, x, kind, TINY["depths"])
        torch.testing.assert_close(folded(encoder)(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [EncoderKind.PROGRESSIVE_BACKBONE, EncoderKind.ENCODER4EDITING])
def test_without_onednn_the_result_is_the_same(
    kind: EncoderKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, _ = tiny(kind)
    x = spread(kind, (64, 64), batch=3)
    with torch.inference_mode():
        packed = folded(encoder)(x)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not Target(CPU, torch.float32).packs
        torch.testing.assert_close(folded(encoder)(x), packed, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [EncoderKind.BACKBONE, EncoderKind.RESNET_BACKBONE])
def test_bf16_is_near(kind: EncoderKind) -> None:
    encoder, _ = tiny(kind)
    x = spread(kind, (64, 64), batch=4)
    with torch.inference_mode():
        exact = folded(encoder)(x)
        ours = folded(encoder, torch.bfloat16)(x.to(torch.bfloat16))
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().mean() < 2e-2 * exact.std()


def test_the_weights_may_be_let_go() -> None:
    encoder, _ = tiny(EncoderKind.BACKBONE)
    x = spread(EncoderKind.BACKBONE, (64, 64))
    with torch.inference_mode():
        ready = folded(encoder)
        before = ready(x)
        for tensor in encoder.state_dict().values():
            tensor.zero_()
        assert torch.equal(ready(x), before)


def test_an_input_in_the_usual_layout_gives_the_same() -> None:
    encoder, _ = tiny(EncoderKind.BACKBONE)
    x = spread(EncoderKind.BACKBONE, (64, 64))
    with torch.inference_mode():
        ready = folded(encoder)
        torch.testing.assert_close(ready(x.contiguous()), ready(x), atol=1e-5, rtol=1e-4)


def test_an_encoder_without_batch_norms_stays_what_it_is() -> None:
    small = build_encoder(EncoderKind.SMALL_BACKBONE, 10)
    assert prepare_encoder(small, Target(CPU, torch.bfloat16)) is small
    assert next(small.parameters()).dtype == torch.bfloat16


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forms of GPUs, with the plain definitions of what they ask kernels for."""
    monkeypatch.setattr(Target, "fuses", property(lambda _: True))


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (16, 96)])
@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.usefixtures("_as_on_a_gpu")
def test_the_forms_of_gpus_agree_with_the_plain_formulas(
    kind: EncoderKind, size: tuple[int, int]
) -> None:
    encoder, state = tiny(kind)
    x = spread(kind, size)
    with torch.inference_mode():
        expected = plain.encode(state, x, kind, TINY["depths"])
        ours = folded(encoder)(x)
    assert ours.dtype == torch.float32
    # An encoder into W predicts one vector for all styles.
    torch.testing.assert_close(ours, expected.expand_as(ours), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_the_forms_of_gpus_in_bf16_are_near() -> None:
    encoder, state = tiny(EncoderKind.BACKBONE)
    x = spread(EncoderKind.BACKBONE, (64, 64), batch=4)
    with torch.inference_mode():
        exact = plain.encode(state, x, EncoderKind.BACKBONE, TINY["depths"])
        ours = folded(encoder, torch.bfloat16)(x.to(torch.bfloat16))
    assert (ours - exact).abs().mean() < 2e-2 * exact.std()
