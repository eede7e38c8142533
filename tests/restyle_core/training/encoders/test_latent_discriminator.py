"""The latent discriminator: its penalty, its memory, and that it learns to tell w apart."""

import torch

from restyle.core.training.encoders.latent_discriminator import (
    LatentAdversary,
    LatentDiscriminator,
    LatentPool,
    gradient_penalty,
)
from restyle.core.training.encoders.spec import EditableLosses


def test_the_penalty_is_the_squared_slope() -> None:
    torch.manual_seed(0)
    network, real = LatentDiscriminator(5).double(), torch.randn(3, 5, dtype=torch.float64)
    slopes = torch.zeros(3, 5, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        for axis in range(5):
            there = torch.zeros(5, dtype=torch.float64)
            there[axis] = step
            slopes[:, axis] = (network(real + there) - network(real - there)) / (2 * step)
    penalty = gradient_penalty(network, real)
    torch.testing.assert_close(penalty, slopes.square().sum(1).mean(), atol=1e-8, rtol=1e-6)
    penalty.backward()
    assert network.layers[0].weight.grad.abs().max() > 0  # type: ignore[union-attr]


def test_the_pool_fills_and_then_swaps_half() -> None:
    torch.manual_seed(0)
    pool = LatentPool(20, 1)
    first = torch.arange(20.0)[:, None]
    assert torch.equal(pool.exchange(first), first)
    second = torch.arange(100.0, 140.0)[:, None]
    returned = pool.exchange(second)
    old, new = returned[returned < 100], returned[returned >= 100]
    assert len(old) + len(new) == 40
    assert 10 <= len(old) <= 20
    # Nothing is lost and nothing doubled: what was returned for an old one is kept instead.
    everything = torch.cat([returned[:, 0], pool.kept[:, 0]]).sort().values
    assert torch.equal(everything, torch.cat([first, second])[:, 0].sort().values)


def test_a_pool_of_none_returns_what_it_gets() -> None:
    w = torch.randn(4, 3)
    assert torch.equal(LatentPool(0, 3).exchange(w), w)


def test_the_discriminator_learns_and_pulls_styles_towards_w() -> None:
    torch.manual_seed(0)
    adversary = LatentAdversary(EditableLosses(discriminator_lr=1e-3, r1=0.1), 8)
    for step in range(300):
        adversary.update(torch.randn(32, 8) + 2, torch.randn(8, 4, 8) - 2, step)
    with torch.no_grad():
        real, fake = (adversary.network(torch.full((1, 8), value)) for value in (2.0, -2.0))
    assert real > fake + 1
    styles = torch.full((1, 3, 8), -1.0, requires_grad=True)
    adversary.encoder_loss(styles).backward()  # type: ignore[no-untyped-call]
    assert styles.grad is not None
    assert (styles.grad.sum(-1) < 0).all(), "gradient descent moves every style up, to the real w"
    assert all(p.grad is None or p.requires_grad for p in adversary.network.parameters())


def test_the_penalty_is_computed_every_few_steps() -> None:
    adversary = LatentAdversary(EditableLosses(r1_every=4), 8)
    paid = [
        "r1" in adversary.update(torch.randn(4, 8), torch.randn(2, 2, 8), step) for step in range(9)
    ]
    assert paid == [True, False, False, False] * 2 + [True]
