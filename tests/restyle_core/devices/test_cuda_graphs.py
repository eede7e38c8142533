"""Recordings of steps: which shapes have one, and that nobody notices. CUDA itself is not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restyle.core.devices import cuda_graphs as step_graphs
from restyle.core.devices.cuda_graphs import Function, GraphWarning, Recording, StepGraphs, Tensors
from restyle.core.errors import SpecError
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model, load_model
from restyle.core.inference.results import Inversion


class Recorder:
    """Records as a GPU does: what is replayed reads and writes the same memory every time."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.replayed: list[int] = []

    def __call__(self, function: Function, inputs: Sequence[Tensor]) -> Recording:
        places = [value.clone() for value in inputs]
        outputs = function(*places)
        self.recorded.append(len(places[0]))

        def replay() -> None:
            self.replayed.append(len(places[0]))
            for place, value in zip(outputs, function(*places), strict=True):
                place.copy_(value)

        return Recording(places, outputs, replay)


def rowwise(x: Tensor, y: Tensor) -> Tensors:
    return x + 2 * y, (x * y).sum(dim=1)


def turned(x: Tensor, y: Tensor) -> Tensors:
    return x + 2 * y, x @ y.T


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    # The second one has no memory of its own for each row, as the average latent has none.
    return [(torch.randn(size, 3), torch.randn(1, 3).expand(size, 3)) for size in sizes]


def test_a_shape_is_recorded_when_it_comes_again_and_results_are_their_callers() -> None:
    recorder = Recorder()
    graphs = StepGraphs(recorder, most=2)
    inputs = batches(4, 4, 3, 4, 3, 2, 2, 4)
    results = [graphs(rowwise, *each) for each in inputs]
    assert recorder.recorded == [4, 2]
    assert recorder.replayed == [4, 4, 4, 4, 2, 4]
    for given, made in zip(inputs, results, strict=True):
        torch.testing.assert_close(made, rowwise(*given))
    assert graphs.problem == ""


def test_smaller_batches_are_filled_up_to_halves_of_the_largest() -> None:
    recorder = Recorder()
    graphs = StepGraphs(recorder)
    sizes = [32, 32, 31, 17, 16, 16, 15, 9, 8, 8, 5, 4, 4, 3, 1, 2]
    for given in batches(*sizes):
        torch.testing.assert_close(graphs(rowwise, *given), rowwise(*given))
    assert recorder.recorded == [32, 16, 8, 4]
    assert recorder.replayed == [32, 32, 32, 16, 16, 16, 8, 8, 4, 4, 4, 4]


def test_a_larger_batch_has_a_recording_and_that_of_old_is_let_go() -> None:
    recorder = Recorder()
    graphs = StepGraphs(recorder, most=2)
    for given in batches(3, 3, 2, 2, 8, 8, 3, 3, 2, 4, 4):
        torch.testing.assert_close(graphs(rowwise, *given), rowwise(*given))
    # 3 and 2 were both full sizes once; 2 was not used for longest when 8 came.
    assert recorder.recorded == [3, 2, 8, 4]


def test_what_cannot_be_recorded_is_computed_and_said_once() -> None:
    tries = []

    def record(function: Function, inputs: Sequence[Tensor]) -> Recording:
        tries.append(len(inputs[0]))
        raise torch.OutOfMemoryError("CUDA out of\nmemory")

    graphs = StepGraphs(record)
    (first, again, third, other, another) = batches(4, 4, 4, 3, 3)
    graphs(turned, *first)
    with pytest.warns(GraphWarning, match="without CUDA graphs: CUDA out of memory"):
        made = graphs(turned, *again)
    torch.testing.assert_close(made, turned(*again))
    for each in (third, other, another):
        torch.testing.assert_close(graphs(turned, *each), turned(*each))
    assert tries == [4]
    assert graphs.problem == "CUDA out of memory"


def test_inversions_are_the_same_images_that_stop_early_included(tiny_model: Path) -> None:
    plain, graphed = (load_model(tiny_model, dtype="fp32", device="cpu") for _ in range(2))
    recorder = Recorder()
    graphed._graphs = StepGraphs(recorder)
    images = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1

    def inverted(model: Model, tolerance: float) -> Inversion:
        return invert(
            model, images, 6, reconstructions="all", metrics=["l2"], deltas=True,
            tolerance=tolerance, batch_size=4,
        )  # fmt: skip

    full = inverted(plain, 0.0)
    assert full.deltas is not None
    # In the middle of what occurs, so that some stop early.
    tolerance = float(full.deltas[:, :-1].amin(dim=1).median()) * 1.001
    for theirs, limit in ((full, 0.0), (inverted(plain, tolerance), tolerance)):
        ours = inverted(graphed, limit)
        assert ours.steps.tolist() == theirs.steps.tolist()
        for mine, plains in (
            (ours.latents, theirs.latents),
            (ours.reconstructions, theirs.reconstructions),
            (ours.metrics["l2"], theirs.metrics["l2"]),
            (ours.deltas, theirs.deltas),
        ):
            torch.testing.assert_close(mine, plains, atol=1e-5, rtol=1e-5)
    assert len(set(theirs.steps.tolist())) > 1
    # The last three of seven images are filled up to four.
    assert recorder.recorded[0] == 4
    assert set(recorder.recorded) <= {4, 2, 1}


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda:0"), torch.device("cpu")
    monkeypatch.delenv(step_graphs.VARIABLE, raising=False)
    assert step_graphs.wanted(gpu)
    assert not step_graphs.wanted(cpu)
    monkeypatch.setenv(step_graphs.VARIABLE, "off")
    assert not step_graphs.wanted(gpu)
    monkeypatch.setenv(step_graphs.VARIABLE, "0")
    with pytest.raises(SpecError, match="RESTYLE_CUDA_GRAPHS is '0'; use on or off"):
        step_graphs.wanted(cpu)
