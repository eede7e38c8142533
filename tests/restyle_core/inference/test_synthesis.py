"""The generator made ready for inference against the generator itself, and the plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restyle.core.checkpoints.weights import assemble_generator
from restyle.core.inference import synthesis
from restyle.core.inference.synthesis import PreparedSynthesis, prepare_synthesis
from restyle.core.networks.convolution import Target
from restyle.core.networks.generator import Generator
from restyle.kernels.errors import KernelError
from tests.restyle_core import plain
from tests.restyle_core.fabricate import Fabricator

CPU = torch.device("cpu")
# Of the second, convolutions may be computed with fewer multiplications.
WIDTHS = ((12, 20, 16, 8), (32, 96, 64, 32))


@pytest.fixture(scope="module", params=WIDTHS)
def state(request: pytest.FixtureRequest) -> plain.State:
    return Fabricator(0).generator(32, style_dim=24, mapping=3, widths=request.param)


@pytest.fixture
def generator(state: plain.State) -> Generator:
    # Of its own for each test, because tests change it.
    return assemble_generator({key: value.clone() for key, value in state.items()}, "test")


def prepared(generator: Generator, dtype: torch.dtype = torch.float32) -> PreparedSynthesis:
    generator.impl = "native"
    found = prepare_synthesis(generator, Target(CPU, dtype))
    assert found is not None
    return found


def latents(batch: int) -> Tensor:
    return torch.randn(batch, 8, 24)


@pytest.mark.parametrize("strip", [1, 1500, 1 << 22])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_agrees_with_the_plain_formulas(
    strip: int, batch: int, generator: Generator, state: plain.State,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # In strips of two rows, of several, and whole; with 1500 bytes only some layers are split.
    monkeypatch.setattr(synthesis, "_STRIP", strip)
    monkeypatch.setattr(synthesis, "_TALL_STRIP", 2 * strip)
    monkeypatch.setattr(synthesis, "_TOGETHER", 2 * strip)
    w = latents(batch)
    expected = plain.synthesis(state, w)
    with torch.inference_mode():
        ours = prepared(generator)(w)
    assert expected.std() > 0.3
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_bf16_stays_close_and_images_are_float32(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "_STRIP", 1000)
    monkeypatch.setattr(synthesis, "_TOGETHER", 1000)
    w = latents(2)
    exact = generator.synthesis(w)
    rounded = prepared(generator, torch.bfloat16)(w)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.01 * exact.abs().mean()


def test_filters_without_symmetry_are_followed(generator: Generator, state: plain.State) -> None:
    torch.manual_seed(5)
    for name, kernel in generator.named_buffers():
        if name.endswith(".kernel"):
            kernel.copy_(torch.outer(torch.rand(4), torch.rand(4)))
    w = latents(1)
    torch.testing.assert_close(
        prepared(generator)(w), generator.synthesis(w).detach(), atol=2e-5, rtol=1e-4
    )


def test_what_only_the_generator_can_do(generator: Generator) -> None:
    generator.impl = "reference"
    assert prepare_synthesis(generator, Target(CPU, torch.float32)) is None
    generator.impl = "auto"
    assert prepare_synthesis(generator, Target(torch.device("meta"), torch.float32)) is None
    generator.get_buffer("to_rgbs.0.upsample.kernel")[1, 2] += 0.5
    assert prepare_synthesis(generator, Target(CPU, torch.float32)) is None
    generator.impl = "native"
    with pytest.raises(KernelError, match="no compiled operators for meta"):
        prepare_synthesis(generator, Target(torch.device("meta"), torch.float32))


def test_nothing_has_gradients_and_later_changes_do_not_show(generator: Generator) -> None:
    ready, w = prepared(generator), latents(1)
    before = ready(w.requires_grad_())
    assert not before.requires_grad
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(1)
    assert torch.equal(ready(w), before)
