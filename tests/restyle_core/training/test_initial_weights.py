"""Training starts from other encoders' weights, or says why it cannot."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from restyle_core.backbones import BackboneShape
from restyle_core.config import EncoderKind
from restyle_core.encoders import EncoderShape, encoder_of_shape
from restyle_core.errors import CheckpointError, SpecError
from restyle_core.model import load_model
from restyle_core.small_encoder import SmallBackboneEncoder, SmallEncoderConfig
from restyle_core.small_encoder import SmallProgressiveBackboneEncoder as Progressive
from restyle_core.training.initial_weights import start_from

SHAPE = SmallEncoderConfig(10, depths=(1, 2, 2, 1), fine_width=160)


def embedded(name: str) -> SmallBackboneEncoder:
    encoder = load_model(f"faces64:{name}", dtype="fp32", device="cpu").encoder
    assert isinstance(encoder, SmallBackboneEncoder)
    return encoder


def test_an_embedded_encoder_goes_on() -> None:
    encoder = SmallBackboneEncoder(SHAPE)
    start_from(encoder, "faces64:restyle-psp")
    x = torch.rand(1, 6, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), embedded("restyle-psp")(x))
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_independent_heads_become_w0_without_differences() -> None:
    encoder = encoder_of_shape(EncoderKind.SMALL_PROGRESSIVE_BACKBONE, SHAPE)
    start_from(encoder, "faces64:restyle-psp")
    x = torch.rand(1, 6, 64, 64) * 2 - 1
    with torch.no_grad():
        first = embedded("restyle-psp")(x)[:, :1]
        torch.testing.assert_close(encoder(x), first.expand(-1, 10, -1))


def test_a_stem_for_images_fills_the_first_three_channels() -> None:
    encoder = SmallBackboneEncoder(SHAPE)
    start_from(encoder, "faces64:single-pass-psp")
    x, current = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = embedded("single-pass-psp")(x)
        torch.testing.assert_close(encoder(torch.cat([x, current], 1)), expected)


def test_a_run_goes_on_with_its_averaged_weights(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), fine_width=16)
    trained = Progressive(shape)
    torch.save({"average": trained.state_dict()}, tmp_path / "checkpoint.pt")
    spec = {"name": "t", "generator": "g", "crops": ["c"], "schedule": {"images": 1}, "e4e": {}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    encoder = Progressive(shape)
    start_from(encoder, str(tmp_path))
    # These were differences before, so they are not cleared.
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[key], value)


def test_weights_of_another_size_are_one_line() -> None:
    encoder = SmallBackboneEncoder(dataclasses.replace(SHAPE, fine_width=96))
    with pytest.raises(CheckpointError, match=r"init: faces64.* of another shape") as caught:
        start_from(encoder, "faces64")
    assert "lateral.weight [160, 96, 1, 1] instead of [96, 96, 1, 1]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_encoder_of_the_model_is_asked_for() -> None:
    with pytest.raises(SpecError, match="no encoder 'best'"):
        start_from(SmallBackboneEncoder(SHAPE), "faces64:best")


def test_published_heads_keep_w0_alone() -> None:
    backbone = BackboneShape(6, (16, 32, 48, 64), (1, 1, 1, 1))
    encoder = encoder_of_shape(EncoderKind.PROGRESSIVE_BACKBONE, EncoderShape(backbone, 4, 8))
    x = torch.rand(2, 6, 32, 32)
    with torch.no_grad():
        first = encoder.eval()(x)[:, :1]
        encoder.clear_differences()
        torch.testing.assert_close(encoder(x), first.expand(-1, 4, -1))


def test_a_run_of_a_generator_is_no_start(tmp_path: Path) -> None:
    torch.save({"average": {}}, tmp_path / "checkpoint.pt")
    (tmp_path / "spec.json").write_text('{"name": "g", "generator": {"widths": [16]}}')
    with pytest.raises(SpecError, match="is no run of an encoder's training"):
        start_from(SmallBackboneEncoder(SHAPE), str(tmp_path))
