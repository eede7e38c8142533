"""Moving, truncating, mixing and interpolating latents; strengths as they are written."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restyle.core.editing.directions import About, Direction
from restyle.core.editing.strengths import apply, interpolate, mix, parse_strengths, truncate
from restyle.core.errors import SpecError

LATENTS = torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(0))
VECTOR = np.random.default_rng(0).normal(size=8)


def direction(vector: np.ndarray = VECTOR, layers: tuple[int, ...] | None = None) -> Direction:
    return Direction.of(vector, About(name="x", kind="sefa", scale=2.0, layers=layers))


def test_one_unit_is_the_scale() -> None:
    edited = apply(LATENTS, direction(), 1.5)
    expected = 1.5 * 2.0 * VECTOR / np.linalg.norm(VECTOR)
    np.testing.assert_allclose((edited - LATENTS).numpy(), np.tile(expected, (3, 10, 1)), atol=1e-6)


def test_each_latent_may_have_its_strength() -> None:
    strengths = torch.tensor([-1.0, 0.0, 2.0])
    edited = apply(LATENTS, direction(), strengths)
    for row, strength in enumerate(strengths.tolist()):
        torch.testing.assert_close(edited[row], apply(LATENTS, direction(), strength)[row])
    torch.testing.assert_close(edited[1], LATENTS[1], rtol=0, atol=0)


def test_only_the_layers_that_are_meant_move() -> None:
    meant = apply(LATENTS, direction(layers=(2, 3)), 1) != LATENTS
    assert meant.any(dim=2)[0].nonzero().flatten().tolist() == [2, 3]
    chosen = apply(LATENTS, direction(layers=(2, 3)), 1, layers=(0, 9)) != LATENTS
    assert chosen.any(dim=2)[0].nonzero().flatten().tolist() == [0, 9]


def test_a_row_for_each_style_moves_each_by_its_own() -> None:
    rows = np.random.default_rng(1).normal(size=(10, 8))
    moved = apply(LATENTS, direction(rows), 1)[0] - LATENTS[0]
    cosines = torch.cosine_similarity(moved, torch.from_numpy(rows).float(), dim=1)
    torch.testing.assert_close(cosines, torch.ones(10))
    assert moved.square().sum(dim=1).mean().sqrt().item() == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize(
    ("vector", "layers"),
    [(np.ones(9), None), (np.ones((9, 8)), None), (np.ones(8), (10,))],
)
def test_what_does_not_fit_is_refused(vector: np.ndarray, layers: tuple[int, ...] | None) -> None:
    with pytest.raises(SpecError, match="'x'"):
        apply(LATENTS, direction(vector, layers), 1)


def test_truncation_goes_towards_the_average() -> None:
    average = torch.full((10, 8), 3.0)
    torch.testing.assert_close(truncate(LATENTS, average, 1.0), LATENTS)
    torch.testing.assert_close(truncate(LATENTS, average, 0.0), average.expand(3, -1, -1))
    torch.testing.assert_close(truncate(LATENTS, average, 0.5), (LATENTS + average) / 2)


def test_mixing_takes_layers_from_the_style() -> None:
    mixed = mix(LATENTS, LATENTS[:1], (4, 5))
    torch.testing.assert_close(mixed[:, [4, 5]], LATENTS[:1, [4, 5]].expand(3, -1, -1))
    rest = [0, 1, 2, 3, 6, 7, 8, 9]
    torch.testing.assert_close(mixed[:, rest], LATENTS[:, rest])
    torch.testing.assert_close(mix(LATENTS[:1], LATENTS, (0,))[:, 0], LATENTS[:, 0])
    with pytest.raises(SpecError, match="styles 0-9"):
        mix(LATENTS, LATENTS, (10,))


def test_a_line_has_both_its_ends() -> None:
    line = interpolate(LATENTS[0], LATENTS[1], 5)
    torch.testing.assert_close(line[0], LATENTS[0], rtol=0, atol=0)
    torch.testing.assert_close(line[4], LATENTS[1], rtol=0, atol=0)
    torch.testing.assert_close(line[1], 0.75 * LATENTS[0] + 0.25 * LATENTS[1])
    with pytest.raises(SpecError, match="two ends"):
        interpolate(LATENTS[0], LATENTS[1], 1)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2", [2]),
        ("-1.5,0, 1.5", [-1.5, 0, 1.5]),
        ("-3..3/7", [-3, -2, -1, 0, 1, 2, 3]),
        ("-0.3..0.3/3", [-0.3, 0, 0.3]),
        ("1..0/2", [1, 0]),
    ],
)
def test_strengths(text: str, values: list[float]) -> None:
    assert list(parse_strengths(text)) == values


@pytest.mark.parametrize(
    "text", ["", "x", "1..2", "1..2/1", "1..2/0", "1..2/1001", "nan", "1,,2", "1..inf/3", "1../3"]
)
def test_other_strengths_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="strength"):
        parse_strengths(text)
