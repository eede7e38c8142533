"""Seconds of single steps, by a clock that moves as far as the steps and the metrics say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restyle.core.inference import inversion as module
from restyle.core.inference import results
from restyle.core.inference.inversion import begin_batch
from restyle.core.inference.model import load_model
from restyle.core.inference.results import Keep
from restyle.core.inference.way import Way
from restyle.core.metrics.measures import MetricSet


class Clock:
    """A clock that stands still unless it is told to move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(("images", "steps", "polish"), [(1, 3, 0), (2, 2, 0), (3, 1, 2)])
def test_a_step_has_its_own_seconds_and_metrics_have_theirs(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, images: int, steps: int, polish: int
) -> None:
    clock = Clock()
    walk, against = module.walk, MetricSet.against_there

    def walking(*args: Any) -> Iterator[Any]:
        for step in walk(*args):
            clock.now += 2.0**step.index
            yield step

    def measuring(self: MetricSet, target: torch.Tensor) -> Any:
        measure = against(self, target)

        def slow(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
            clock.now += 100.0
            return measure(pictures)

        return slow

    monkeypatch.setattr(results, "time", clock)
    monkeypatch.setattr(module, "walk", walking)
    # One thread, as the clock is shared.
    monkeypatch.setattr(module, "parallel_parts", lambda *_: 1)
    monkeypatch.setattr(MetricSet, "against_there", measuring)
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    pixels = np.zeros((images, 64, 64, 3), np.uint8)
    keep = Keep(metrics=("l2",), seconds=True)
    found = begin_batch(model, pixels, Way(steps, polish=polish), keep)()
    assert found.seconds is not None
    assert found.measuring is not None
    wanted = [2.0**step / images for step in range(1, steps + 1 + (polish > 0))]
    assert np.allclose(found.seconds, np.tile(wanted, (images, 1)))
    assert np.allclose(found.measuring, 100.0 * len(wanted) / images)


def test_an_image_that_stopped_takes_no_more_seconds(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    walk = module.walk

    def walking(*args: Any) -> Iterator[Any]:
        for step in walk(*args):
            clock.now += 12.0
            yield step

    monkeypatch.setattr(results, "time", clock)
    monkeypatch.setattr(module, "walk", walking)
    monkeypatch.setattr(module, "parallel_parts", lambda *_: 1)
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    found = begin_batch(model, pixels, Way(4, tolerance=2.0), Keep(seconds=True))()
    assert found.steps.tolist() == [1, 1, 1, 1]
    assert found.seconds is not None
    assert np.allclose(found.seconds, [[3.0, 0.0, 0.0, 0.0]] * 4)


def test_seconds_are_left_out_unless_asked_for(tiny_model: Path) -> None:
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    found = begin_batch(model, np.zeros((1, 64, 64, 3), np.uint8), Way(1), Keep())()
    assert found.seconds is None
    assert found.measuring is None
