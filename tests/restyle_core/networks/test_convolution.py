"""Convolutions with fixed weights against torch's own, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restyle.core.networks.convolution import FixedConvolution, Target
from restyle.core.networks.generator import Generator, GeneratorConfig
from tests.restyle_core import plain

CPU = torch.device("cpu")


def prepared(weight: torch.Tensor, dtype: torch.dtype, *, doubles: bool) -> FixedConvolution:
    made = FixedConvolution.of(weight, Target(CPU, dtype), doubles=doubles)
    if made is None:
        pytest.skip("this processor has no instructions for compiled convolutions of this type")
    return made


@pytest.mark.parametrize("doubles", [False, True], ids=["plain", "doubles"])
@pytest.mark.parametrize(
    ("shape", "batch", "side"),
    [((32, 16), 1, 4), ((64, 32), 3, 9), ((32, 48), 2, 16), ((160, 160), 1, 8)],
)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_and_its_gradient_are_torchs(
    doubles: bool, shape: tuple[int, int], batch: int, side: int, dtype: torch.dtype, error: float
) -> None:
    source = torch.Generator().manual_seed(side)
    weight = torch.randn(*shape, 3, 3, generator=source)
    x = torch.randn(batch, shape[1], side, side, generator=source)
    ours, theirs = (x.to(each).requires_grad_(True) for each in (dtype, torch.float64))
    y = prepared(weight, dtype, doubles=doubles)(ours)
    exact = weight.to(dtype).double()
    expected = (
        F.conv_transpose2d(theirs, exact.transpose(0, 1), stride=2)
        if doubles
        else F.conv2d(theirs, exact, padding=1)
    )
    assert y.shape == expected.shape
    assert (y.double() - expected).norm() < error * expected.norm()
    above = torch.randn(y.shape, generator=source)
    (found,) = torch.autograd.grad(y, ours, above.to(dtype))
    (wanted,) = torch.autograd.grad(expected, theirs, above.to(dtype).double())
    assert (found.double() - wanted).norm() < error * wanted.norm()


def test_weights_that_do_not_fit_have_none() -> None:
    target = Target(CPU, torch.float32)
    assert FixedConvolution.of(torch.zeros(3, 32, 3, 3), target, doubles=False) is None
    assert FixedConvolution.of(torch.zeros(32, 20, 3, 3), target, doubles=False) is None
    plainly = Target(CPU, torch.float32, "reference")
    assert FixedConvolution.of(torch.zeros(32, 32, 3, 3), plainly, doubles=False) is None


def test_a_generator_with_fixed_weights_has_the_same_gradient_of_latents() -> None:
    torch.manual_seed(1)
    generator = Generator(GeneratorConfig((32, 32, 64), style_dim=64, z_dim=16, mapping_layers=2))
    target = Target(CPU, torch.float32)
    with torch.no_grad():
        fixed = [
            FixedConvolution.of(
                layer.conv.scaled_weight, target, doubles=layer.conv.blur is not None
            )
            for layer in generator.styled
        ]
    if not all(fixed):
        pytest.skip("this processor has no instructions for compiled convolutions")
    state = {name: value.detach() for name, value in generator.state_dict().items()}
    w = torch.randn(2, generator.config.n_styles, 64)
    gradients = []
    for render in (
        lambda w: generator.synthesis(w, fixed=fixed),
        lambda w: plain.synthesis(state, w),
    ):
        own = w.clone().requires_grad_(True)
        image = render(own)
        (gradient,) = torch.autograd.grad(image.square().sum(), own)
        gradients.append((image.detach(), gradient))
    torch.testing.assert_close(*[image for image, _ in gradients], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*[each for _, each in gradients], atol=1e-3, rtol=1e-3)
