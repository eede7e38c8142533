"""Tuning of a generator against a plain second implementation, and what is kept of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from restyle.core import Model, invert, optimize
from restyle.core.errors import CheckpointError, FatalError, SpecError
from restyle.core.inference import tuning
from restyle.core.inference.tuning import Tuning, decoded, encoded, of_face, tune
from restyle.core.metrics.lpips import load_lpips
from tests.restyle_core import plain
from tests.restyle_core.inference.test_inversion import pictures

SMALL = (64, 64)
STEPS = 4


pytestmark = pytest.mark.usefixtures("one_thread")


def pivots(model: Model, x: torch.Tensor) -> torch.Tensor:
    return invert(model, x, 2).latents[:, -1]


def by_the_book(
    model: Model, state: dict[str, torch.Tensor], x: torch.Tensor, pivot: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Differences of one face's weights after STEPS steps on plain operators."""
    network, source = load_lpips(), torch.Generator().manual_seed(0)
    fixed = {name: value.clone() for name, value in state.items()}
    own = {
        name: value.clone().requires_grad_(True)
        for name, value in state.items()
        if not name.startswith(("style.", "noises.")) and not name.endswith(".kernel")
    }
    adam = torch.optim.Adam(list(own.values()), lr=3e-4)
    seen: list[tuple[float, dict[str, torch.Tensor]]] = []

    def rendered(weights: dict[str, torch.Tensor], w: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(plain.synthesis(weights, w[None]), SMALL)

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = (a - b).square().mean() + network(a, b).sum()
        return total

    average = model.latent_avg
    for _ in range(STEPS + 1):
        z = torch.randn(1, model.generator.config.z_dim, generator=source)
        with torch.no_grad():
            w = average + 0.5 * (model.generator.mapping(z) - average)
        away = w - pivot
        near = pivot + away * min(1.0, 30 / float(away.norm()))
        loss = distance(rendered(fixed | own, pivot), x[None])
        seen.append((loss.item(), {name: value.detach().clone() for name, value in own.items()}))
        change = distance(rendered(fixed | own, near), rendered(fixed, near))
        adam.zero_grad()
        (loss + 0.1 * change).backward()  # type: ignore[no-untyped-call]
        adam.step()
    best = min(seen, key=lambda pair: pair[0])[1]
    return {name: value - fixed[name] for name, value in best.items()}


def test_it_agrees_with_the_plain_implementation(model: Model, content: dict[str, Any]) -> None:
    x = pictures(2, SMALL)
    begun = pivots(model, x)
    found = tune(model, x, begun, Tuning(STEPS))
    state = plain.sub(content["state_dict"], "decoder")
    for index in range(2):
        expected = by_the_book(model, state, x[index], begun[index])
        assert expected.keys() == found.keys()
        moved = math.sqrt(sum(float(value.square().sum()) for value in expected.values()))
        apart = math.sqrt(
            sum(
                float((found[name][index].float() - value).square().sum())
                for name, value in expected.items()
            )
        )
        assert moved > 0.1
        # Adam enlarges differences in rounding where a gradient is nearly zero.
        assert apart < 0.03 * moved


def test_each_face_comes_nearer_and_the_model_stays(model: Model) -> None:
    x = pictures(3, SMALL, seed=4)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    result = invert(model, x, 2, tuning=12, metrics=["l2", "lpips"], reconstructions="all")
    assert result.steps.tolist() == [3, 3, 3]
    loss = result.metrics["l2"] + result.metrics["lpips"]
    assert (loss[:, 2] < 0.9 * loss[:, 1]).all()
    # The pivot is the encoder's latent.
    assert torch.equal(result.latents[:, 2], result.latents[:, 1])
    assert all(
        torch.equal(value, before[name]) for name, value in model.generator.state_dict().items()
    )
    assert result.reconstructions is not None
    for index in range(3):
        own = model.tuned(of_face(result.weights, index))
        image = own.synthesize(result.latents[index : index + 1, 2])
        torch.testing.assert_close(image[0], result.reconstructions[index, 2])
        assert (image - model.synthesize(result.latents[index : index + 1, 2])).abs().max() > 0.01


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_face_has_one_generator_in_every_batch(model: Model, count: int) -> None:
    x = pictures(5, SMALL)
    options: dict[str, Any] = {"iterations": 3, "start": "encoder", "steps": 2, "tuning": 3}
    expected = optimize(model, x, **options)
    found = optimize(model, x[5 - count :], **options, batch_size=2)
    assert torch.equal(found.latents, expected.latents[5 - count :])
    for name, values in expected.weights.items():
        assert torch.equal(found.weights[name], values[5 - count :]), name


def test_locality_keeps_other_images(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more it weighs, the less a random face changes."""
    x = pictures(1, SMALL)
    begun = pivots(model, x)
    z = torch.randn(8, model.generator.config.z_dim, generator=torch.Generator().manual_seed(9))
    others = model.generator.mapping(z)[:, None].expand(-1, model.n_styles, -1).detach()
    others = begun + 30 * (others - begun) / (others - begun).norm(dim=(1, 2), keepdim=True)
    changes = []
    for weight in (0.0, 0.1, 10.0):
        monkeypatch.setattr(tuning, "LOCALITY_WEIGHT", weight)
        own = model.tuned(of_face(tune(model, x, begun, Tuning(30)), 0))
        change = (own.synthesize(others) - model.synthesize(others)).square().mean()
        changes.append(float(change))
    assert changes[0] > changes[1] > changes[2]


def test_the_seed_decides_the_images_that_are_kept(model: Model) -> None:
    x = pictures(1, SMALL)
    begun = pivots(model, x)
    one, same, other = (tune(model, x, begun, Tuning(5, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_weights_survive_their_file(model: Model) -> None:
    x = pictures(2, SMALL)
    weights = of_face(tune(model, x, pivots(model, x), Tuning(2)), 1)
    data = encoded(weights)
    # Half of float32, and nothing of the mapping network.
    assert len(data) < 2.1 * sum(value.numel() for value in weights.values()) + 20_000
    again = decoded(data)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert not any(name.startswith("style.") for name in again)


@pytest.mark.parametrize(
    "data", [b"", b"no safetensors", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"]
)
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        decoded(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"no.such.weight": torch.zeros(1)},
        {"conv1.conv.weight": torch.zeros(3, 3)},
        {"conv1.activate.bias": torch.tensor(math.nan)},
        {"conv1.noise.weight": torch.tensor([math.inf])},
    ],
    ids=["name", "shape", "scalar", "infinite"],
)
def test_weights_of_another_generator_are_refused(
    model: Model, wrong: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(CheckpointError, match="not of"):
        model.tuned(wrong)


def test_values_that_are_not_finite_are_never_kept(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are far too large make every later loss infinite or not a number."""
    x = pictures(1, SMALL)
    begun = pivots(model, x)
    monkeypatch.setattr(tuning, "LEARNING_RATE", 1e30)
    found = tune(model, x, begun, Tuning(3))
    # The best on the way is the start.
    assert all(not value.any() for value in found.values())


def test_differences_too_large_for_their_type_end_it(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "LEARNING_RATE", 1e6)
    monkeypatch.setattr(
        tuning._Face,
        "_losses",
        lambda self, near: (
            -sum(each.sum() for each in self._parameters.values()),
            torch.zeros(()),
        ),
    )
    x = pictures(1, SMALL)
    with pytest.raises(FatalError, match="not finite"):
        tune(model, x, pivots(model, x), Tuning(2))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tuning": -1}, "from 0 on"),
        ({"tuning": 5, "tolerance": 0.1}, "leave one out"),
        ({"polish": -2, "tuning": 5}, "from 0 on"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    model: Model, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SpecError, match=reason):
        invert(model, pictures(1, SMALL), 2, **options)
