"""Optimisation of latents against a plain second implementation, and polishing after an encoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restyle.core import Model, invert, load_model
from restyle.core import optimize as core_optimize
from restyle.core.errors import SpecError
from restyle.core.inference import optimization
from restyle.core.inference.optimization import Loss, optimize
from restyle.core.metrics.lpips import load_lpips
from tests.restyle_core import plain
from tests.restyle_core.fabricate import checkpoint, save
from tests.restyle_core.inference.test_inversion import pictures

SMALL = (64, 64)


pytestmark = pytest.mark.usefixtures("one_thread")


def losses_of(model: Model, x: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return Loss(model, x)(latents)


def by_the_book(
    state: dict[str, torch.Tensor], x: torch.Tensor, start: torch.Tensor, steps: int
) -> torch.Tensor:
    """Latents of one image by Adam (1412.6980, algorithm 1) on plain operators."""
    network, w = load_lpips(), start.clone()
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    seen = []
    for step in range(steps + 1):
        w.requires_grad_(True)
        image = F.adaptive_avg_pool2d(plain.synthesis(state, w[None]), SMALL)
        loss = (image - x).square().mean() + 0.8 * network(image, x[None]).sum()
        seen.append((loss.item(), w.detach().clone()))
        loss.backward()
        gradient, w = w.grad, w.detach()
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        count = step + 1
        rate = 0.1 * min(1, count / max(1, 0.05 * steps))
        left = 1 - step / steps
        if left < 0.25:
            rate *= (1 - math.cos(math.pi * left / 0.25)) / 2
        scale = (second / (1 - 0.999**count)).sqrt() + 1e-8
        w = w - rate * first / (1 - 0.9**count) / scale
    return min(seen, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("from_average", [True, False], ids=["average", "encoder"])
def test_it_agrees_with_the_plain_implementation(
    model: Model, content: dict[str, Any], from_average: bool
) -> None:
    x = pictures(3, SMALL)
    start = model.latent_avg.expand(3, -1, -1)
    if not from_average:
        start = invert(model, x, 2).latents[:, -1]
    found = optimize(model, x, start, 8)
    state = plain.sub(content["state_dict"], "decoder")
    for image, begun, ended in zip(x, start, found, strict=True):
        expected = by_the_book(state, image, begun, 8)
        assert (ended - begun).abs().max() > 0.1
        # Adam divides small gradients by their size, which enlarges differences in rounding.
        assert (ended - expected).abs().mean() < 1e-3
        torch.testing.assert_close(ended, expected, atol=2e-2, rtol=0.0)


def test_every_image_comes_nearer(model: Model) -> None:
    x = pictures(6, SMALL, seed=3)
    before = invert(model, x, 2).latents[:, -1]
    after = optimize(model, x, before, 20)
    assert (losses_of(model, x, after) < 0.9 * losses_of(model, x, before)).all()


def test_no_image_becomes_worse(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are far too large lead away from the start."""
    monkeypatch.setattr(optimization, "LEARNING_RATE", 30.0)
    x = pictures(3, SMALL)
    before = invert(model, x, 2).latents[:, -1]
    after = optimize(model, x, before, 3)
    assert (losses_of(model, x, after) <= losses_of(model, x, before)).all()


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_an_image_has_one_latent_in_every_batch(model: Model, count: int) -> None:
    """To the bit, because an optimisation enlarges the smallest difference."""
    x = pictures(7, SMALL)
    expected = invert(model, x, 2, polish=6, metrics=["l2"])
    chosen = torch.arange(6, 6 - count, -1)
    for used in (1, 2):
        torch.set_num_threads(used)
        found = invert(model, x[chosen], 2, polish=6, metrics=["l2"], batch_size=count)
        assert torch.equal(found.latents, expected.latents[chosen])
        torch.testing.assert_close(found.metrics["l2"], expected.metrics["l2"][chosen])


def test_polish_is_one_more_step(model: Model) -> None:
    x = pictures(3, SMALL)
    options: dict[str, Any] = {"metrics": ["l2", "lpips"], "deltas": True}
    plainly = invert(model, x, 3, reconstructions="all", **options)
    every = invert(model, x, 3, polish=5, reconstructions="all", **options)
    assert every.steps.tolist() == [4, 4, 4]
    assert every.latents.shape[1] == 4
    torch.testing.assert_close(every.latents[:, :3], plainly.latents, atol=1e-4, rtol=1e-4)
    assert torch.equal(
        every.latents[:, 3], optimize_in_fours(model, x, every.latents[:, 2], steps=5)
    )
    assert (every.metrics["lpips"][:, 3] < every.metrics["lpips"][:, 2]).all()
    assert every.reconstructions is not None
    assert every.deltas is not None
    images = [model.pool(every.reconstructions[:, t]) for t in (2, 3)]
    change = (images[1] - images[0]).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(every.deltas[:, 3], change)
    torch.testing.assert_close(model.synthesize(every.latents[:, 3]), every.image)

    last = invert(model, x, 3, polish=5, latents="last", **options)
    assert last.reconstructions is not None
    assert torch.equal(last.latents[:, 0], every.latents[:, 3])
    assert torch.equal(last.reconstructions, every.reconstructions[:, 2:])
    least = invert(model, x, 3, polish=5, latents="last", reconstructions="none")
    assert least.reconstructions is None
    assert torch.equal(least.latents, last.latents)


def optimize_in_fours(
    model: Model, x: torch.Tensor, latents: torch.Tensor, steps: int
) -> torch.Tensor:
    filled = torch.arange(4).clamp(max=len(x) - 1)
    return optimize(model, x[filled], latents[filled], steps)[: len(x)]


def test_a_start_of_ones_own_is_polished(model: Model) -> None:
    x = pictures(5, SMALL)
    begun = invert(model, x, 2)
    ended = invert(model, x, 1, start=begun, polish=4)
    again = invert(model, x, 3, polish=4)
    torch.testing.assert_close(ended.latents[:, 0], again.latents[:, 2], atol=1e-4, rtol=1e-4)
    assert ended.steps.tolist() == [2] * 5


def test_without_polish_nothing_changes(model: Model) -> None:
    x = pictures(5, SMALL)
    one, other = invert(model, x, 3, deltas=True), invert(model, x, 3, deltas=True, polish=0)
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.image, other.image)
    assert one.latents.shape[1] == 3


def test_values_that_are_not_finite_are_never_the_best(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of some latents is not a number, and the gradient after them neither."""
    x = pictures(2, SMALL)
    start = model.latent_avg.expand(2, -1, -1)
    calls = 0

    class Failing(Loss):
        def __call__(self, latents: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            losses = super().__call__(latents)
            return losses * torch.tensor([1.0, math.nan if calls > 3 else 1.0])

    expected = optimize(model, x, start, 9)
    monkeypatch.setattr(optimization, "Loss", Failing)
    found = optimize(model, x, start, 9)
    assert found.isfinite().all()
    assert torch.equal(found[0], expected[0])
    assert calls == 10
    monkeypatch.undo()
    assert (losses_of(model, x, found) < losses_of(model, x, start)).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"polish": -1}, "from 0 on"),
        ({"polish": 5, "tolerance": 0.1}, "leave one out"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    model: Model, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SpecError, match=reason):
        invert(model, pictures(1, SMALL), 2, **options)


def test_images_too_small_for_the_loss_are_refused(model: Model) -> None:
    with pytest.raises(SpecError, match="polishing needs 31"):
        optimize(model, pictures(1, (16, 16)), model.latent_avg[None], 2)


def test_the_published_sizes_and_a_domain_with_rows_cut_off(tmp_path: Path) -> None:
    path = save(
        checkpoint("ResNetProgressiveBackboneEncoder", 512, dataset="cars_encode", tiny=True),
        tmp_path / "cars.pt",
    )
    cars = load_model(path, dtype="fp32", device="cpu")
    x = pictures(2, (192, 256))
    result = invert(cars, x, 1, polish=2, metrics=["lpips"])
    assert result.reconstructions is not None
    assert result.reconstructions.shape == (2, 2, 3, 384, 512)
    assert (result.metrics["lpips"][:, 1] < result.metrics["lpips"][:, 0]).all()
    assert np.isfinite(result.latents.numpy()).all()


def from_the_average(
    model: Model, state: dict[str, torch.Tensor], x: torch.Tensor, steps: int, seed: int
) -> torch.Tensor:
    """The projector with noise (1912.04958, appendix D), on plain operators."""
    network, source = load_lpips(), torch.Generator().manual_seed(seed)
    z = torch.randn(
        10_000, model.generator.config.z_dim, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        mapped = model.generator.mapping(z)
    spread = (mapped - mapped.mean(0)).norm(dim=1).square().mean().sqrt()
    w = model.latent_avg.clone().requires_grad_(True)
    adam, seen = torch.optim.Adam([w]), []
    for step in range(steps + 1):
        t = step / steps
        size = 0.05 * spread * max(0, 1 - t / 0.75) ** 2
        noisy = w if size == 0 else w + size * torch.randn(w.shape, generator=source)
        image = F.adaptive_avg_pool2d(plain.synthesis(state, noisy[None]), SMALL)
        loss = (image - x).square().mean() + 0.8 * network(image, x[None]).sum()
        seen.append((loss.item(), noisy.detach().clone()))
        adam.zero_grad()
        loss.backward()
        rate = 0.1 * min(1, (step + 1) / max(1, 0.05 * steps))
        if t > 0.75:
            rate *= (1 - math.cos(math.pi * (1 - t) / 0.25)) / 2
        adam.param_groups[0]["lr"] = rate
        adam.step()
    return min(seen, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_from_the_average_it_agrees_with_the_plain_projector(
    model: Model, content: dict[str, Any], seed: int
) -> None:
    x = pictures(2, SMALL)
    found = core_optimize(model, x, 8, seed=seed, noise=0.05)
    assert found.steps.tolist() == [1, 1]
    assert found.iterations is not None
    assert found.iterations.tolist() == [8, 8]
    state = plain.sub(content["state_dict"], "decoder")
    for image, ended in zip(x, found.latents[:, 0], strict=True):
        expected = from_the_average(model, state, image, 8, seed)
        assert (ended - expected).abs().mean() < 1e-3
        torch.testing.assert_close(ended, expected, atol=2e-2, rtol=0.0)


def test_the_seed_decides_the_noise(model: Model) -> None:
    x = pictures(2, SMALL)
    one, same, other = (
        core_optimize(model, x, 6, seed=seed, noise=0.05).latents for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_hybrid_is_polish(model: Model) -> None:
    x = pictures(3, SMALL)
    hybrid = core_optimize(model, x, 6, start="encoder", steps=2, metrics=["l2"])
    polished = invert(model, x, 2, polish=6, metrics=["l2"])
    assert torch.equal(hybrid.latents, polished.latents)
    assert torch.equal(hybrid.metrics["l2"], polished.metrics["l2"])


def test_an_image_stops_at_the_target(model: Model) -> None:
    """Each at a step of its own, with the latent that it has there; others go on."""
    x = pictures(4, SMALL, seed=3)
    whole = core_optimize(model, x, 20, start="encoder", steps=2)
    losses = losses_of(model, x, whole.latents[:, -1])
    start = losses_of(model, x, whole.latents[:, -2])
    target = float(losses.median() * 0.3 + start.median() * 0.7)
    found = core_optimize(model, x, 20, start="encoder", steps=2, target_loss=target)
    assert found.iterations is not None
    assert len(set(found.iterations.tolist())) > 1
    reached = losses_of(model, x, found.latents[:, -1])
    for loss, taken in zip(reached, found.iterations, strict=True):
        assert (loss <= target * (1 + 1e-5)) == (taken < 20)
    # None takes more steps than it needs: one less has not reached it.
    for index, taken in enumerate(found.iterations.tolist()):
        if not 0 < taken < 20:
            continue
        alone = core_optimize(
            model, x[index : index + 1], 20, start="encoder", steps=2, target_loss=target
        )
        assert torch.equal(alone.latents[0], found.latents[index])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 3}, "start must be 'encoder'"),
        ({"iterations": 0}, "optimisation is needed"),
        ({"iterations": -3}, "from 0 on"),
    ],
)
def test_optimisations_that_make_no_sense_are_refused(
    model: Model, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SpecError, match=reason):
        core_optimize(model, pictures(1, SMALL), **options)
