"""Planning: what an input lists now and no plan holds yet becomes units of the manifest.

Streams: the listing is never held. Every file of the manifest that has been written counts, so
planning that is killed half-way goes on where it was.
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
"""Vanished inputs that are named."""

_MIN_UNIT = 8
_UNITS_WANTED = 32


@dataclass
class Planned:
    """What planning came to.

    Attributes:
        new: inputs that were never planned before.
        changed: inputs that were, but are another file now; they have a new revision.
        vanished: inputs planned from the same ``INPUT`` that it no longer lists.
        gone: some of these by name.
        listed: inputs that ``INPUT`` lists, each once.
        units: what was added to the manifest.
        written: the files that hold these, relative to the output.
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
    """Adds what is new to a manifest.

    Attributes:
        planned_inputs: the manifest.
        origin: where the inputs come from.
        listener: is told how many were found.
        before_first: is called once, before the first file is written.
    """

    planned_inputs: PlannedInputs
    origin: Origin
    listener: Listener
    before_first: Callable[[], None] = lambda: None

    def plan(self, batches: Iterable[Sequence[SourceImage]], limit: int | None = None) -> Planned:
        """Plan what a listing holds.

        Args:
            batches: the listing; no container is split between two of them.
            limit: take only the first so many inputs; what vanished is not asked then.

        Raises:
            SpecError: the same input was planned with another column.
            FatalError: the output cannot be written.
        """
        self._check_column()
        planned = Planned()
        parts = _Parts(self.planned_inputs.manifest, self.origin, self.before_first)
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
        """Plan inputs once more, whatever is known of them.

        Args:
            batches: the inputs, with the revisions that they are to have.
            most: inputs in a unit.
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
    """Collects new inputs and writes them to the manifest, file by file."""

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
    """Inputs per unit: small jobs get small units, so that they overlap and show progress."""
    return min(MAX_UNIT, max(_MIN_UNIT, _cuts(count, _UNITS_WANTED)))


def _cuts(count: int, size: int) -> int:
    return -(-count // size)


def _limited(
    batches: Iterable[Sequence[SourceImage]], limit: int | None, met: Callable[[], int]
) -> Iterator[tuple[Sequence[SourceImage], bool]]:
    """The first so many inputs of a listing, and whether the last batch is only a part of one."""
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
    """Neighbours of one container together, with its URI; empty for files of their own."""
    current, group = b"", list[SourceImage]()
    for image in batch:
        # What is wrong with a container as a whole belongs to it too.
        within = image.uri if image.place or image.uri == current else b""
        if within != current and group:
            yield current, group
            group = []
        current = within
        group.append(image)
    if group:
        yield current, group


def _sources(manifest: Manifest, rows: npt.NDArray[np.int64]) -> list[str]:
    """What rows of the manifest, counted through all its files, are called."""
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
