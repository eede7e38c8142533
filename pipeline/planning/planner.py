"""Planner: adds the new and changed inputs of a listing to the manifest, as units.

The listing is streamed, never held in memory. Each plan file takes effect once it is written, so
that planning continues after the last one if it was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.manifest import (
    MAX_UNIT,
    PART_UNITS,
    Origin,
    Unit,
    UnitRef,
    images_of,
    new_unit,
    next_number,
    read_plans,
)
from restyle.pipeline.ledger.output import Manifest
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.sources.source_image import SourceImage

MAX_NAMED = 5
"""Maximum number of vanished inputs listed by name."""

_MIN_UNIT = 8
_UNITS_WANTED = 32


@dataclass
class Planned:
    """Result of planning.

    Attributes:
        new: Number of inputs planned for the first time, or retried.
        changed: Number of inputs planned under a new revision because their file changed.
        vanished: Number of inputs planned from the same ``INPUT`` that it no longer lists.
        gone: Sources of the first :data:`MAX_NAMED` vanished inputs.
        listed: Number of distinct inputs that ``INPUT`` lists.
        units: Units added to the manifest.
        written: Paths of the plan files with these units, relative to the output.
    """

    new: int = 0
    changed: int = 0
    vanished: int = 0
    gone: list[str] = field(default_factory=list)
    listed: int = 0
    units: list[UnitRef] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Planner:
    """Adds inputs to a manifest.

    Attributes:
        planned_inputs: Index of the manifest.
        origin: Origin of the inputs.
        listener: Receiver of the number of inputs found.
        before_first: Callback invoked once, before the first plan file is written.
    """

    planned_inputs: PlannedInputs
    origin: Origin
    listener: Listener
    before_first: Callable[[], None] = lambda: None

    def plan(
        self,
        batches: Iterable[Sequence[SourceImage]],
        limit: int | None = None,
        most: int = MAX_UNIT,
    ) -> Planned:
        """Plan the new and changed inputs of a listing.

        Args:
            batches: the listing; each container lies within one batch.
            limit: maximum number of inputs to take; with a limit, vanished inputs are not detected.
            most: maximum number of inputs in a unit.

        Raises:
            SpecError: the same ``INPUT`` was planned with another column.
            FatalError: the output cannot be written.
        """
        self._check_column()
        planned = Planned()
        parts = _Parts(self.planned_inputs.manifest, self.origin, self.before_first, most=most)
        try:
            for batch, cut in _limited(batches, limit, self.planned_inputs.met):
                planned.listed += len(batch)
                self.listener.listed(planned.listed)
                for container, images in _by_container(batch):
                    fresh = list(self.planned_inputs.sift(images))
                    planned.changed += sum(image.revision > 1 for image in fresh)
                    planned.new += sum(image.revision == 1 for image in fresh)
                    parts.add(container, fresh, is_cut=cut)
            parts.close()
        finally:
            planned.units, planned.written = parts.units, parts.written
        planned.listed = self.planned_inputs.is_listed()
        if limit is None:
            lost = self.planned_inputs.vanished(self.origin.input)
            planned.vanished = len(lost)
            planned.gone = _sources(self.planned_inputs.manifest, lost[:MAX_NAMED])
        return planned

    def plan_again(self, batches: Iterable[Sequence[SourceImage]], most: int) -> Planned:
        """Plan inputs unconditionally, as a retry does.

        Args:
            batches: the inputs, with their new revisions.
            most: maximum number of inputs in a unit.
        """
        planned = Planned()
        parts = _Parts(self.planned_inputs.manifest, self.origin, self.before_first, most=most)
        try:
            for batch in batches:
                planned.new += len(batch)
                self.listener.listed(planned.new)
                for image in batch:
                    self.planned_inputs.add(image)
                for container, images in _by_container(batch):
                    parts.add(container, images, is_cut=False)
            parts.close()
        finally:
            planned.units, planned.written = parts.units, parts.written
        planned.listed = planned.new
        return planned

    def _check_column(self) -> None:
        for earlier in self.planned_inputs.origins:
            if earlier.input == self.origin.input and earlier.column != self.origin.column:
                raise SpecError(
                    f"{self.origin.input} was planned with --column {earlier.column or '(none)'}; "
                    "give the same, or choose another --out"
                )


class _Parts:
    """Buffer of new inputs that writes them to the manifest, one plan file at a time."""

    def __init__(
        self,
        manifest: Manifest,
        origin: Origin,
        before_first: Callable[[], None],
        *,
        most: int = MAX_UNIT,
    ) -> None:
        self.units: list[UnitRef] = []
        self.written: list[str] = []
        self._manifest = manifest
        self._origin = origin
        self._number = next_number(manifest.units)
        self._before_first = before_first
        self._most = most
        self._loose: list[SourceImage] = []
        self._containers: list[list[SourceImage]] = []

    def add(self, container: bytes, images: list[SourceImage], *, is_cut: bool) -> None:
        if not images:
            return
        if not container:
            self._loose += images
        else:
            self._containers.append(images)
            if is_cut:
                self._origin = replace(self._origin, cut=container.hex())
        while self._planned_units() >= PART_UNITS:
            self._write(self._most, is_last=False)

    def close(self) -> None:
        count = len(self._loose) + sum(map(len, self._containers))
        if count:
            size = self._most if self.written else min(self._most, unit_size(count))
            self._write(size, is_last=True)

    def _planned_units(self) -> int:
        within = (_cuts(len(images), self._most) for images in self._containers)
        return len(self._loose) // self._most + sum(within)

    def _write(self, size: int, *, is_last: bool) -> None:
        whole = len(self._loose) if is_last else len(self._loose) // size * size
        whole = whole if is_last else min(whole, PART_UNITS * size)
        groups = [self._loose[:whole], *self._containers]
        self._loose, self._containers = self._loose[whole:], []
        units: list[Unit] = []
        for group in groups:
            for start in range(0, len(group), size):
                units.append(new_unit(self._number + len(units), group[start : start + size]))
        if not self.written:
            self._before_first()
        refs = self._manifest.add(units, self._origin)
        self._number += len(units)
        self.units += refs
        self.written.append(refs[0].plan)


def unit_size(count: int) -> int:
    """Return the inputs per unit; small jobs get small units, for parallelism and progress."""
    return min(MAX_UNIT, max(_MIN_UNIT, _cuts(count, _UNITS_WANTED)))


def _cuts(count: int, size: int) -> int:
    return -(-count // size)


def _limited(
    batches: Iterable[Sequence[SourceImage]], limit: int | None, met: Callable[[], int]
) -> Iterator[tuple[Sequence[SourceImage], bool]]:
    """Yield batches up to a limit, each with whether the limit cut it."""
    taken = 0
    for batch in batches:
        if limit is None:
            yield batch, False
            continue
        left = limit - taken - met()
        if left <= 0:
            return
        taken += min(left, len(batch))
        yield batch[:left], left < len(batch)


def _by_container(batch: Sequence[SourceImage]) -> Iterator[tuple[bytes, list[SourceImage]]]:
    """Group consecutive inputs by container URI; the URI is empty for standalone files."""
    current, group = b"", list[SourceImage]()
    for image in batch:
        # An input for a fault of the whole container has its URI but no place; it joins the group.
        within = image.uri if image.place or image.uri == current else b""
        if within != current and group:
            yield current, group
            group = []
        current = within
        group.append(image)
    if group:
        yield current, group


def _sources(manifest: Manifest, rows: npt.NDArray[np.int64]) -> list[str]:
    """Return the sources of manifest rows, numbered across all plan files."""
    wanted, found = [int(row) for row in rows], list[str]()
    if not wanted:
        return found
    first = 0
    for file in read_plans(manifest.storage, manifest.plans):
        for unit in file.units:
            within = [row - first for row in wanted if first <= row < first + unit.images]
            if within:
                images = images_of(manifest.storage, file, unit.group)
                found += [images[row].source for row in within]
            first += unit.images
        if len(found) == len(wanted):
            break
    return found
