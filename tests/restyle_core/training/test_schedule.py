import math

import pytest
import torch

from restyle.core.training.schedule import cosine_decay, update_average


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 1.0), (0.6, 1.0), (0.8, 0.5), (1.0, 0.0), (1.5, 0.0)]
)
def test_the_rate_falls_over_the_end(progress: float, factor: float) -> None:
    assert math.isclose(cosine_decay(progress, 0.6), factor, abs_tol=1e-12)


def test_no_decay_when_it_would_begin_at_the_end() -> None:
    assert cosine_decay(1.0, 1.0) == 1.0


def test_the_average_halves_its_memory_in_a_half_life() -> None:
    average, model = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    start, goal = average.weight.detach().clone(), model.weight.detach().clone()
    for step in range(10):
        update_average(average, model, batch=10, half_life=100, seen=10_000 + step * 10)
    torch.testing.assert_close(average.weight.detach(), (start + goal) / 2)
