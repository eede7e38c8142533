"""The yardstick is right, the layers are all of them, and the parts add up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from restyle.core.bench.convolutions import Layer, Rates, encoder_layers, generator_layers
from restyle.core.bench.grouped import GroupedReference
from restyle.core.bench.measure import FAST, PLAIN, STAGES, Bench, Plan
from restyle.core.bench.random_model import write_random_model
from restyle.core.bench.summary import summary
from restyle.core.checkpoints.directory import save_model
from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    assemble_encoder,
    assemble_generator,
)
from restyle.core.errors import SpecError
from restyle.core.networks.config import Domain, EncoderKind
from restyle.core.networks.encoders import build_encoder
from restyle.core.networks.generator import GeneratorConfig
from tests.restyle_core import plain
from tests.restyle_core.fabricate import TINY, checkpoint

KIND = EncoderKind.PROGRESSIVE_BACKBONE


@pytest.fixture(scope="module")
def weights() -> ModelWeights:
    content = checkpoint(KIND, 32)
    encoder = EncoderWeights(
        KIND, plain.sub(content["state_dict"], "encoder"), content["latent_avg"]
    )
    domain = Domain(name="tiny", domain="church", image_size=(64, 64))
    return ModelWeights(domain, plain.sub(content["state_dict"], "decoder"), {"e": encoder}, "e")


def test_the_yardstick_agrees_with_the_formulas(weights: ModelWeights, tmp_path: Path) -> None:
    config = save_model(weights, tmp_path / "model")
    generator = assemble_generator(weights.generator, "test")
    encoder = assemble_encoder(weights.encoders["e"], generator, "test")
    ours = GroupedReference(config, weights.generator, encoder)
    latents, x = torch.randn(3, 8, 32), torch.rand(3, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.synthesize(latents),
            plain.synthesis(weights.generator, latents),
            atol=1e-4,
            rtol=1e-4,
        )
        both = torch.cat([x, x.flip(0)], dim=1)
        expected = plain.encode(weights.encoders["e"].state, both, KIND, TINY["depths"])
        torch.testing.assert_close(ours.encode(x, x.flip(0)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [EncoderKind.BACKBONE, EncoderKind.ENCODER4EDITING])
def test_the_layers_of_an_encoder_are_all_that_it_computes(kind: EncoderKind) -> None:
    channels = 6 if kind is EncoderKind.BACKBONE else 3
    with torch.device("meta"):
        encoder = build_encoder(kind, 18, in_channels=channels).eval()
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(1, channels, 256, 256))
    counted = sum(
        flops
        for operator, flops in counter.get_flop_counts()["Global"].items()
        if "convolution" in str(operator)
    )
    layers = encoder_layers(kind, encoder.state_dict(), (256, 256))
    assert sum(layer.flops for layer in layers) == counted


def test_the_layers_of_the_published_generators() -> None:
    # Counted by hand: 2 in out k^2 for each pixel, of the smaller side where the size doubles.
    assert sum(
        layer.flops for layer in generator_layers(GeneratorConfig.published(1024))
    ) == pytest.approx(148.5e9, rel=1e-3)


def test_a_floor_is_arithmetic_or_memory_layer_by_layer() -> None:
    busy, idle = Layer(512, 512, 3, 1, (64, 64)), Layer(32, 3, 1, 1, (1024, 1024))
    doubling = Layer(64, 32, 3, 1, (512, 512), doubles=True)
    assert busy.bytes(2, 1) == 2 * (2 * 512 * 64 * 64 + 9 * 512 * 512)
    # Four images share the weights.
    assert busy.bytes(2, 4) == 2 * (2 * 512 * 64 * 64 + 9 * 512 * 512 / 4)
    assert doubling.bytes(4, 1) == 4 * (64 * 512**2 + 32 * 1025**2 + 9 * 64 * 32)
    assert Layer(64, 64, 3, 2, (9, 8)).bytes(1, 1) == 64 * 72 + 64 * 20 + 9 * 64 * 64
    rates = Rates(flops=1e15, bytes=4e12)
    # 19 GFLOP against 13 MB, and 0.2 GFLOP against 73 MB.
    assert busy.flops / 1e15 > busy.bytes(2, 1) / 4e12
    assert idle.flops / 1e15 < idle.bytes(2, 1) / 4e12
    expected = busy.flops / 1e15 + idle.bytes(2, 1) / 4e12
    assert rates.floor([busy, idle], 2, 1) == pytest.approx(expected)
    alone = (busy.flops + idle.flops) / 1e15
    assert Rates(1e15).floor([busy, idle], 2, 1) == pytest.approx(alone)


def test_a_small_bench_from_end_to_end(weights: ModelWeights, tmp_path: Path) -> None:
    save_model(weights, tmp_path / "model")
    bench = Bench(tmp_path / "model", None, Plan(["fp32"], [2], steps=3, repeats=2, device="cpu"))
    slow, fast = bench.findings()
    for finding, path in ((fast, FAST), (slow, PLAIN)):
        assert [row.stage for row in finding.rows] == list(STAGES)
        assert {(row.path, row.dtype, row.batch) for row in finding.rows} == {(path, "fp32", 2)}
        assert all(row.timing.median > 0 for row in finding.rows)
        encoder, synthesis, loop = finding.rows
        assert loop.floor == pytest.approx(3 * (encoder.floor + synthesis.floor))
    assert len(fast.rows[0].timing.seconds) == 2
    assert len(slow.rows[0].timing.seconds) == 3
    encoder, synthesis, loop = fast.rows
    assert encoder.bare is not None
    assert synthesis.bare is not None
    assert loop.bare == pytest.approx(3 * (encoder.bare + synthesis.bare))
    # The same images through both, and far enough from where they started.
    assert (fast.latents - slow.latents).abs().max() < 1e-3
    average = weights.encoders["e"].latent_avg
    assert (fast.latents - average).abs().mean() > 0.05
    (line,) = summary([fast, slow])
    ratio = slow.rows[2].timing.median / loop.timing.median
    assert line.startswith("fp32: ")
    assert f"{ratio:.1f} times as fast as plain fp32" in line


def test_an_unknown_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="faces1024"):
        write_random_model("faces2048", tmp_path / "model")
