"""The inputs of a job as its manifest has them, and random samples of them.

Of an ``INPUT`` with many shards only some are opened, drawn at random; the inputs of the others are
counted as many as those of the opened ones on average.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.manifest import UnitRef, damaged, images_of, open_plan, read_plans
from restyle.pipeline.ledger.output import Manifest, Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import InputPlan, plan_input
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.sources.formats.source_format import format_named
from restyle.pipeline.sources.source_image import SourceImage

MOST_SHARDS = 16
"""Number of shards of an ``INPUT`` that are opened."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shards:
    """Shards of an ``INPUT``.

    Attributes:
        found: number of shards.
        opened: number of those whose inputs are planned.
    """

    found: int = 0
    opened: int = 0

    @property
    def weight(self) -> float:
        """Number of shards that each opened one stands for."""
        return self.found / self.opened if self.opened else 1.0


@dataclass(frozen=True)
class Population:
    """The pending inputs of a manifest.

    Attributes:
        output: owner of the manifest.
        units: pending units, in order.
        sizes: [rows] listed size of each input in bytes, -1 if unknown.
        weights: [rows] number of inputs that each stands for.
        shards: shards of the input.
        spread: relative standard error of the number of inputs; 0 if they were counted.
        seconds: of planning the whole input.
    """

    output: Output
    units: tuple[UnitRef, ...]
    sizes: npt.NDArray[np.int64]
    weights: Floats
    shards: Shards
    spread: float = 0.0
    seconds: float = 0.0

    @property
    def inputs(self) -> float:
        """Number of inputs."""
        return float(self.weights.sum())

    @property
    def in_unit(self) -> float:
        """Mean number of inputs in a unit."""
        return len(self.sizes) / len(self.units)

    @property
    def known_bytes(self) -> float:
        """Bytes of the inputs by their listed sizes; those of unknown size count nothing."""
        return float((np.maximum(self.sizes, 0) * self.weights).sum())

    def draw(self, count: int, seed: int) -> list[SourceImage]:
        """Draw inputs at random, one of each of ``count`` classes of size, in random order.

        Args:
            count: number of inputs; all are drawn where there are no more.
            seed: of the drawing.
        """
        random = np.random.default_rng(seed)
        rows = np.arange(len(self.sizes))
        if count < len(rows):
            # Inputs of one size, or of unknown size, in random order.
            order = np.lexsort((random.random(len(rows)), self.sizes))
            upto = np.cumsum(self.weights[order])
            points = (np.arange(count) + random.random(count)) * upto[-1] / count
            found = np.searchsorted(upto, points, side="right")
            rows = np.unique(order[np.minimum(found, len(order) - 1)])
        images = list(self._images(rows))
        return [images[index] for index in random.permutation(len(images))]

    def _images(self, rows: npt.NDArray[np.int64]) -> Iterator[SourceImage]:
        """Yield the inputs of rows, in ascending order."""
        ends = np.cumsum([unit.images for unit in self.units])
        of_unit = np.searchsorted(ends, rows, side="right")
        file = None
        for index in np.unique(of_unit):
            unit = self.units[index]
            if file is None or file.name != unit.plan:
                file = open_plan(self.output.storage, unit.plan)
            images = images_of(self.output.storage, file, unit.group)
            first = ends[index] - unit.images
            for row in rows[of_unit == index]:
                yield images[row - first]


def population_of(output: Output, shards: Shards | None = None) -> Population:
    """Read the pending inputs of a manifest.

    Args:
        output: an output whose manifest is written.
        shards: of its input, if only some were opened.

    Raises:
        SpecError: no input is pending.
        FatalError: the manifest is damaged.
    """
    shards, done = shards or Shards(), output.entries.units
    units: list[UnitRef] = []
    sizes, weights, counts = [np.empty(0, np.int64)], [np.empty(0)], dict[bytes, int]()
    for file in read_plans(output.storage):
        for unit in (each for each in file.units if each.name not in done):
            try:
                table = file.parquet.read_row_group(
                    unit.group, columns=["uri", "size", "place"], use_threads=False
                )
            except (pa.ArrowException, OSError) as error:
                raise damaged(output.storage, file.name, error) from error
            is_within = np.array([bool(place) for place in table["place"].to_pylist()])
            units.append(unit)
            sizes.append(table["size"].to_numpy().astype(np.int64))
            weights.append(np.where(is_within, shards.weight, 1.0))
            for uri in np.array(table["uri"].to_pylist(), object)[is_within]:
                counts[uri] = counts.get(uri, 0) + 1
    if not units:
        raise SpecError(f"{output.storage.uri} has no pending input; there is nothing to estimate")
    found = np.concatenate(weights)
    return Population(
        output,
        tuple(units),
        np.concatenate(sizes),
        found,
        shards,
        _spread(list(counts.values()), shards, float(found.sum())),
    )


def list_population(
    asked: InputPlan, seed: int, listener: Listener, most_shards: int = MOST_SHARDS
) -> Population:
    """List an ``INPUT`` and write its manifest, with some of its shards alone if it has many.

    Args:
        asked: the input, and the folder of the manifest.
        seed: of the drawing of shards.
        listener: receives notes and the number of inputs found.
        most_shards: number of shards to open.

    Raises:
        SpecError, FatalError, TransientError: the input cannot be planned; see
            :func:`restyle.pipeline.planning.input_plan.plan_input`.
    """
    # Landmarks are matched with all inputs, and a limit counts from the first.
    if asked.limit is not None or asked.input.landmarks is not None:
        seconds, _ = _planned(asked, None, listener)
        return replace(population_of(Output.at(asked.out)), seconds=seconds)
    kept = _Kept()
    listing, found = _planned(asked, frozenset(), kept)
    if not found:
        kept.tell(listener)
        return replace(population_of(Output.at(asked.out)), seconds=listing)
    drawn = np.random.default_rng(seed).permutation(len(found))[:most_shards]
    shards = Shards(len(found), len(drawn))
    opening, _ = _planned(asked, frozenset(found[index] for index in drawn), listener)
    seconds = max(opening, listing + (opening - listing) * shards.weight)
    return replace(population_of(Output.at(asked.out), shards), seconds=seconds)


class _Kept(Listener):
    """Keeps notes for another listener."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def noted(self, line: str) -> None:
        self._notes.append(line)

    def tell(self, listener: Listener) -> None:
        for line in self._notes:
            listener.noted(line)


class _SomeShards(PlannedInputs):
    """Planned inputs that say of all shards but some that they are planned.

    Attributes:
        opened: URIs of shards to open; None for all.
        shards: URIs of all shards.
    """

    opened: frozenset[bytes] | None = None

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.shards: set[bytes] = set()

    def holds(self, uri: bytes, version: str) -> bool:
        named = format_named(uri)
        if self.opened is None or named is None or named[0].only_as_input:
            return super().holds(uri, version)
        self.shards.add(uri)
        return uri not in self.opened


def _planned(
    asked: InputPlan, opened: frozenset[bytes] | None, listener: Listener
) -> tuple[float, list[bytes]]:
    """Plan an input with some of its shards; return the seconds and all of its shards."""
    started = time.perf_counter()
    planned_inputs = _SomeShards.read(Output.at(asked.out))
    assert isinstance(planned_inputs, _SomeShards)  # noqa: S101 (read makes its own class)
    planned_inputs.opened = opened
    plan_input(asked, planned_inputs, listener)
    return time.perf_counter() - started, sorted(planned_inputs.shards)


def _spread(counts: list[int], shards: Shards, inputs: float) -> float:
    """Relative standard error of the number of inputs, from those of the opened shards."""
    if shards.opened == shards.found:
        return 0.0
    if len(counts) < 2:
        return math.inf
    error = float(np.std(counts, ddof=1)) / math.sqrt(len(counts))
    return shards.found * error * math.sqrt(1 - shards.opened / shards.found) / inputs
