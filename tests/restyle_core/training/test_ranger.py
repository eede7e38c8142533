"""Ranger against the formulas of its three papers, written out for one scalar at a time."""

import math

import torch

from restyle.core.training.ranger import Ranger

LR, BETA1, BETA2, EPS = 1e-2, 0.95, 0.999, 1e-5


def rectified_adam(gradients: list[float], start: float) -> list[float]:
    """Liu et al., 1908.03265, algorithm 2, with the epsilon where Adam has it."""
    x, m, v, path = start, 0.0, 0.0, []
    longest = 2 / (1 - BETA2) - 1
    for t, g in enumerate(gradients, 1):
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        corrected = m / (1 - BETA1**t)
        length = longest - 2 * t * BETA2**t / (1 - BETA2**t)
        if length > 5:
            rectified = math.sqrt(
                (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            )
            x -= LR * corrected * rectified * math.sqrt(1 - BETA2**t) / (math.sqrt(v) + EPS)
        else:
            x -= LR * corrected
        path.append(x)
    return path


def test_rectified_adam_between_lookaheads() -> None:
    gradients = [0.3, -0.1, 0.7, 0.2, 0.5, -0.4, 0.6, 0.1]
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = Ranger([weight], LR, (BETA1, BETA2), EPS, lookahead=100)
    for gradient, expected in zip(gradients, rectified_adam(gradients, 2.0), strict=True):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert abs(weight.item() - expected) < 1e-7


def test_lookahead_returns_half_way_every_six_steps() -> None:
    gradients = [0.3, -0.1, 0.7, 0.2, 0.5, -0.4]
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = Ranger([weight], LR, (BETA1, BETA2), EPS)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    fast = rectified_adam(gradients, 2.0)[-1]
    assert abs(weight.item() - (2.0 + 0.5 * (fast - 2.0))) < 1e-7


def test_gradients_of_matrices_are_centralized_per_row() -> None:
    constant = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = Ranger([constant])
    constant.grad = torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 4).clone()
    optimizer.step()
    # A gradient that is constant along a row has nothing left once its mean is gone.
    torch.testing.assert_close(constant.detach(), torch.ones(3, 4))


def test_state_survives_saving() -> None:
    def train(steps: int, break_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 3)
        optimizer = Ranger(layer.parameters(), 1e-2)
        for step in range(steps):
            if step == break_at:
                saved = optimizer.state_dict()
                optimizer = Ranger(layer.parameters(), 1e-2)
                optimizer.load_state_dict(saved)
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            layer(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return layer.weight.detach()

    assert torch.equal(train(15, None), train(15, 8))
