"""Training starts from other encoders' weights, or says why it cannot."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from restyle.core.errors import CheckpointError, SpecError
from restyle.core.inference.model import load_model
from restyle.core.networks.backbones import BackboneShape
from restyle.core.networks.config import EncoderKind
from restyle.core.networks.encoders import EncoderShape, encoder_of_shape
from restyle.core.networks.small_encoder import SmallBackboneEncoder, SmallEncoderConfig
from restyle.core.networks.small_encoder import SmallProgressiveBackboneEncoder as Progressive
from restyle.core.training.encoders.initial_weights import start_from

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


def test_a_face_recognition_backbone_is_taken_without_its_classifier(tmp_path: Path) -> None:
    backbone = BackboneShape(6, (16, 32, 48, 64), (1, 2, 1, 1))
    encoder = encoder_of_shape(EncoderKind.BACKBONE, EncoderShape(backbone, 4, 8))
    heads = encoder.state_dict()["styles.1.linear.weight"].clone()
    state = {
        key: torch.randn_like(value)
        for key, value in encoder.state_dict().items()
        if key.startswith(("input_layer.", "body.")) and not key.endswith("num_batches_tracked")
    }
    stem = torch.randn(16, 3, 3, 3)
    file = state | {"input_layer.0.weight": stem, "output_layer.3.weight": torch.randn(8, 8)}
    torch.save(file, tmp_path / "ir_se50.pth")
    start_from(encoder, str(tmp_path / "ir_se50.pth"))
    found = encoder.state_dict()
    assert torch.equal(found["input_layer.0.weight"][:, :3], stem)
    assert found["input_layer.0.weight"][:, 3:].abs().max() == 0
    for key in state.keys() - {"input_layer.0.weight"}:
        assert torch.equal(found[key], state[key])
    assert torch.equal(found["styles.1.linear.weight"], heads)
    del file["body.3.res_layer.1.weight"]
    torch.save(file, tmp_path / "ir_se50.pth")
    with pytest.raises(CheckpointError, match=r"1 missing \(body\.3\.res_layer\.1\.weight\)"):
        start_from(encoder, str(tmp_path / "ir_se50.pth"))


def test_an_imagenet_resnet_is_taken_in_torchvisions_layout(tmp_path: Path) -> None:
    depths = (2, 1, 3, 1)
    backbone = BackboneShape(6, (16, 32, 48, 64), depths)
    encoder = encoder_of_shape(EncoderKind.RESNET_BACKBONE, EncoderShape(backbone, 4, 8))
    file, expected = {"fc.weight": torch.randn(10, 64)}, {}
    for key, value in encoder.state_dict().items():
        part, _, rest = key.partition(".")
        if part in ("styles", "relu") or key.endswith("num_batches_tracked"):
            continue
        expected[key] = torch.randn_like(value)
        if part == "body":
            index, layer = int(rest.partition(".")[0]), 0
            while index >= depths[layer]:
                index, layer = index - depths[layer], layer + 1
            file[f"layer{layer + 1}.{index}.{rest.partition('.')[2]}"] = expected[key]
        else:
            file[key] = expected[key]
    torch.save(file, tmp_path / "resnet.pth")
    start_from(encoder, str(tmp_path / "resnet.pth"))
    for key, value in expected.items():
        assert torch.equal(encoder.state_dict()[key], value)
