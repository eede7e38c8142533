"""The layer that moves z is part of the mapping network exactly."""

from __future__ import annotations

import torch

from recipes.faces64.mapping import Shift, prepend
from restyle.core.networks.generator import Generator, GeneratorConfig


def test_a_longer_mapping_network_is_the_old_one_after_the_shift() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig((8, 8), style_dim=64, z_dim=10, mapping_layers=3))
    shift = Shift(10, 44)
    for parameter in shift.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z = torch.randn(200, 10)
    with torch.no_grad():
        unit = z / z.square().mean(dim=1, keepdim=True).sqrt()
        expected = generator.style[1:](shift(unit))
        longer = prepend(generator, shift)
        assert longer.config.mapping_layers == 4
        torch.testing.assert_close(longer.mapping(z), expected, rtol=1e-4, atol=1e-5)
        assert (longer.mapping(z) - generator.mapping(z)).abs().max() > 1e-2
        w = generator.mapping(z[:2])[:, None].expand(-1, generator.config.n_styles, -1)
        assert torch.equal(longer.synthesis(w), generator.synthesis(w))
