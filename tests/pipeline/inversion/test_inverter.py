"""Units that share batches come out as if each had been alone."""

from __future__ import annotations

import dataclasses
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from restyle.core.errors import FatalError
from restyle.pipeline.inversion import inverter as module
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.inversion.inverter import Inverter
from restyle.pipeline.ledger.commit import EncodedUnit
from tests.pipeline.inversion.test_rows import settings

SIZES = {"a": 5, "b": 1, "c": 0, "d": 7}


def unit(name: str) -> AlignedUnit:
    rng = np.random.default_rng(ord(name))
    crops = [
        Crop(
            f"{number:032x}",
            0,
            f"{name}{number}.jpg",
            rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            rng.random((4, 2)),
        )
        for number in range(SIZES[name])
    ]
    return AlignedUnit(name, SIZES[name], crops, [], 0.5)


def frames(inverted: EncodedUnit) -> dict[str, pd.DataFrame]:
    return {
        name: pq.read_table(io.BytesIO(data)).to_pandas()
        for name, (data, _) in inverted.files.items()
    }


def assert_same(one: EncodedUnit, other: EncodedUnit) -> None:
    assert (one.unit, one.images, one.faces) == (other.unit, other.images, other.faces)
    found, expected = frames(one), frames(other)
    assert found.keys() == expected.keys()
    for name, frame in found.items():
        for column in frame:
            values, wanted = frame[column], expected[name][column]
            if column == "latent":
                np.testing.assert_allclose(np.stack(values), np.stack(wanted), atol=1e-4)
            elif column == "image":
                assert len(values) == len(wanted)
            elif values.dtype.kind == "f":
                np.testing.assert_allclose(values, wanted, rtol=1e-3, atol=1e-5)
            elif column != "quad":
                assert list(values) == list(wanted), column


@pytest.mark.parametrize("defers", [False, True], ids=["cpu", "gpu"])
def test_units_that_share_batches_are_as_if_alone(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, defers: bool
) -> None:
    alone = Inverter(str(tiny_model), settings(), device="cpu", batch_size=1, threads=1)
    expected = {name: alone(unit(name)) for name in SIZES}
    alone.close()

    batches: list[list[str]] = []
    begun, gate = threading.Event(), threading.Event()
    original = Inverter._invert

    def spy(self: Inverter, crops: Any) -> Any:
        begun.set()
        assert gate.wait(60)
        batches.append([crop.source[0] for crop in crops])
        return original(self, crops)

    monkeypatch.setattr(Inverter, "_invert", spy)
    shared = Inverter(str(tiny_model), settings(), device="cpu", batch_size=4, threads=1)
    shared._defers = defers
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared, unit("a"))
        assert begun.wait(60)
        rest = [pool.submit(shared, unit(name)) for name in "bcd"]
        waiting = shared._batches
        with waiting._changed:
            assert waiting._changed.wait_for(
                lambda: sum(len(order.items) - order.begun for order in waiting._waiting) == 9, 60
            )
        gate.set()
        found = [future.result(120) for future in (first, *rest)]
    shared.close()
    for inverted in found:
        assert_same(inverted, expected[inverted.unit])
    assert [len(batch) for batch in batches] == [4, 4, 4, 1]
    assert len(set(batches[1])) > 1


@pytest.mark.parametrize(
    ("fit", "tried", "left"), [(4, [4, 1], 4), (1, [4, 2, 1, 1, 2, 1, 1, 1], 1)]
)
def test_a_batch_that_a_gpu_has_no_memory_for_is_computed_in_parts(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, fit: int, tried: list[int], left: int
) -> None:
    sizes = []
    original = module.begin_batch

    def small(model: Any, images: Any, *options: Any) -> Any:
        sizes.append(len(images))
        if len(images) > fit:
            raise module.torch.OutOfMemoryError("CUDA out of memory")
        return original(model, images, *options)

    whole = Inverter(str(tiny_model), settings(), device="cpu", batch_size=4, threads=1)
    expected = whole(unit("a"))
    whole.close()
    monkeypatch.setattr(module, "begin_batch", small)
    inverter = Inverter(str(tiny_model), settings(), device="cpu", batch_size=4, threads=1)
    assert inverter.worker_info.batch_size == 4
    assert_same(inverter(unit("a")), expected)
    assert sizes == tried
    assert inverter.worker_info.batch_size == left
    assert_same(inverter(unit("a")), expected)
    assert max(sizes[len(tried) :]) == left
    inverter.close()


def test_a_face_that_a_gpu_has_no_memory_for_ends_the_run(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise module.torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "begin_batch", too_large)
    inverter = Inverter(str(tiny_model), settings(), device="cpu", batch_size=4, threads=1)
    with pytest.raises(FatalError, match="one face does not fit into the free memory of cpu"):
        inverter(unit("a"))
    inverter.close()


def test_somebody_hears_of_each_batch(tiny_model: Path) -> None:
    heard: list[int] = []
    inverter = Inverter(
        str(tiny_model),
        settings(),
        device="cpu",
        batch_size=2,
        threads=1,
        computed=lambda: heard.append(1),
    )
    inverter(unit("a"))
    inverter.close()
    assert len(heard) == 3


@pytest.mark.parametrize("name", ["a", "b", "d"])
def test_a_unit_tells_the_seconds_of_its_steps(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    begun = module.begin_batch

    def timed(*args: Any) -> Any:
        result = begun(*args)()
        count = len(result.latents)
        # Several threads at once: more seconds than the wall has.
        seconds = torch.tensor([[1e6, 3e6]]).repeat(count, 1)
        result = dataclasses.replace(result, seconds=seconds, measuring=torch.full((count,), 4e6))
        return lambda: result

    monkeypatch.setattr(module, "begin_batch", timed)
    inverter = Inverter(str(tiny_model), settings(), device="cpu", batch_size=2, threads=1)
    made = inverter(unit(name))
    inverter.close()
    # Half of the time is that of metrics.
    assert np.allclose(made.step_seconds, np.array([1, 3]) / 8 * made.seconds["invert"], rtol=1e-5)


def test_a_unit_without_faces_has_no_seconds_of_steps(tiny_model: Path) -> None:
    inverter = Inverter(str(tiny_model), settings(), device="cpu", batch_size=2, threads=1)
    assert inverter(unit("c")).step_seconds == ()
    inverter.close()
