"""The discriminator against the formulas written out slowly."""

import math

import pytest
import torch
import torch.nn.functional as F

from restyle.core.training.generators.discriminator import (
    Discriminator,
    EqualizedConv,
    with_deviation,
)


def blurred(x: torch.Tensor, pad: int) -> torch.Tensor:
    """Each channel under the outer product of [1, 3, 3, 1] / 8 with itself, zeros outside."""
    taps = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 8
    x = F.pad(x, (pad, pad, pad, pad))
    rows = sum(tap * x[:, :, i : x.shape[2] - 3 + i] for i, tap in enumerate(taps))
    return sum(tap * rows[:, :, :, i : x.shape[3] - 3 + i] for i, tap in enumerate(taps))


@pytest.mark.parametrize(("size", "pad"), [(1, 1), (3, 2)])
def test_halving_blurs_first_and_convolves_every_second_pixel(size: int, pad: int) -> None:
    torch.manual_seed(0)
    conv = EqualizedConv(3, 5, size, down=True, bias=True).double()
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    dense = F.conv2d(blurred(x, pad), conv.weight / math.sqrt(3 * size * size), conv.bias)
    torch.testing.assert_close(conv(x), dense[:, :, ::2, ::2])
    assert conv(x).shape == (2, 5, 4, 4)


def test_the_deviation_of_a_group_is_appended() -> None:
    x = torch.randn(6, 2, 3, 3)
    out = with_deviation(x)
    assert torch.equal(out[:, :2], x)
    # Six images make two groups of three.
    for image in range(6):
        together = x[:3] if image < 3 else x[3:]
        expected = together.std(dim=0, unbiased=False).mean()
        torch.testing.assert_close(out[image, 2], expected.expand(3, 3), rtol=1e-4, atol=1e-5)


def test_one_logit_an_image_at_unit_scale_from_the_start() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator((16, 16, 8, 8))
    logits = discriminator(torch.randn(8, 3, 32, 32))
    assert logits.shape == (8,)
    assert 0.01 < logits.std() < 10
