"""One run over a sample: an inversion whose inputs are given, and what each of its units took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from restyle.core.stage_clock import ALIGNMENT
from restyle.pipeline.accounting.run_record import NAME, read_run
from restyle.pipeline.execution.executor import Engine
from restyle.pipeline.execution.request import Request
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import encode
from restyle.pipeline.ledger.entries import UnitRecord, WrittenFile
from restyle.pipeline.ledger.manifest import Origin, new_unit
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.listener import Interrupted, Listener, Progress
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.filesystem import Storage

_WAITING = "read"
"""Part of alignment in which no core is busy."""

_MOST_MERGED = 32 * 2**20
"""Bytes of a dataset's files that are merged to tell what they have beyond their rows."""


@dataclass(frozen=True)
class UnitCost:
    """What a unit took.

    Attributes:
        images: number of inputs.
        faces: number of faces.
        rejects: number of rejected inputs by reason.
        align: seconds of alignment, summed over its processes, without reading files.
        invert: seconds of computing.
        files: bytes of each file, by dataset.
        entry: bytes in the ledger.
    """

    images: int
    faces: int
    rejects: dict[str, int]
    align: float
    invert: float
    files: dict[str, int]
    entry: int


@dataclass(frozen=True)
class SampleRun:
    """What a run over a sample took.

    Attributes:
        device: that the workers computed on, ``cpu`` or ``cuda``.
        workers: number of inversion workers.
        units: its units.
        beyond_rows: bytes of each file that do not grow with its rows, by dataset.
        starting: seconds from the command to the first work of the workers.
        computing: seconds from there to the last unit.
        ending: seconds of the record and the report.
        report: bytes of ``report.html`` and of the run's records.
    """

    device: str
    workers: int
    units: tuple[UnitCost, ...]
    beyond_rows: dict[str, float]
    starting: float
    computing: float
    ending: float
    report: int

    @property
    def images(self) -> int:
        """Number of inputs."""
        return sum(unit.images for unit in self.units)

    @property
    def faces(self) -> int:
        """Number of faces."""
        return sum(unit.faces for unit in self.units)


@dataclass(frozen=True)
class Sample:
    """Inputs to run.

    Attributes:
        images: the inputs.
        in_unit: number of inputs in each unit.
        usual: mean number of inputs in a unit of the job, which the stages are set up for.
    """

    images: Sequence[SourceImage]
    in_unit: int
    usual: float


@dataclass(frozen=True)
class _SampleTask(InversionTask):
    """An inversion of given inputs instead of those of an ``INPUT``."""

    sample: Sample = Sample((), 1, 1.0)

    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        images, size = self.sample.images, self.sample.in_unit
        for image in images:
            planned_inputs.add(image)
        starts = range(0, len(images), size)
        units = [
            new_unit(number, images[start : start + size]) for number, start in enumerate(starts)
        ]
        before_first()
        refs = planned_inputs.manifest.add(units, Origin())
        return Planned(new=len(images), listed=len(images), units=refs, written=[refs[0].plan])

    def job(self, device: str, images: float) -> InversionJob:
        return super().job(device, self.sample.usual)


def run_sample(
    request: Request, sample: Sample, listener: Listener, engine: Engine | None = None
) -> SampleRun:
    """Invert a sample into the empty folder ``request.out``.

    Args:
        request: the job, with its executor.
        sample: the inputs.
        listener: receives notes and the progress.
        engine: as for :func:`restyle.pipeline.inversion.run.invert_images`.

    Raises:
        SpecError, FatalError: as for :func:`restyle.pipeline.inversion.run.invert_images`.
        Interrupted: the user pressed Ctrl-C.
    """
    clock = _Clock(listener)
    task = replace(_SampleTask.of(request), sample=sample)
    try:
        conduct(lambda: task, clock, engine)
    except Interrupted:
        # Its own message is of an output that can be continued.
        raise Interrupted("interrupted; nothing was estimated") from None
    ended = time.perf_counter()
    output = Output.at(request.out)
    storage, record = output.storage, read_run(output.storage)
    assert record is not None  # noqa: S101 (the run has written it)
    entries = storage.sizes(ledger.FOLDER)
    written = storage.sizes("")
    return SampleRun(
        device=(record.workers[0].device if record.workers else record.device).partition(":")[0],
        workers=max(1, len(record.used)),
        units=tuple(
            _cost(each.units[0], entries[ledger.entry_name(each)]) for each in output.sets()
        ),
        beyond_rows=_beyond_rows(storage, output.records()),
        starting=clock.last - clock.began - clock.computing,
        computing=clock.computing,
        ending=ended - clock.last,
        report=written[REPORT_FILE] + 2 * written[NAME],
    )


class _Clock(Listener):
    """Takes the times of a run, and passes its events on.

    Attributes:
        began: when it was made.
        last: when the last unit was done.
        computing: seconds until then since the workers began to work.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.began = self.last = time.perf_counter()
        self.computing = 0.0

    def noted(self, line: str) -> None:
        self._listener.noted(line)

    def advanced(self, progress: Progress) -> None:
        self.last, self.computing = time.perf_counter(), progress.seconds
        self._listener.advanced(progress)


def _cost(record: UnitRecord, entry: int) -> UnitCost:
    parts = set(ALIGNMENT) - {_WAITING}
    return UnitCost(
        images=record.images,
        faces=record.faces,
        rejects=dict(record.rejects),
        align=sum(seconds for name, seconds in record.seconds.items() if name in parts),
        invert=record.seconds.get("invert", 0.0),
        files={dataset_of(file.name): file.size for file in record.files},
        entry=entry,
    )


def _beyond_rows(storage: Storage, records: Sequence[UnitRecord]) -> dict[str, float]:
    """Bytes of a file beyond those of its rows, by dataset.

    The rows of several files in one file take fewer bytes than these, by as many as each of the
    others has beyond its rows.
    """
    files: dict[str, list[WrittenFile]] = {}
    for record in records:
        for file in record.files:
            files.setdefault(dataset_of(file.name), []).append(file)
    return {dataset: _beyond(storage, some) for dataset, some in files.items()}


def _beyond(storage: Storage, files: Sequence[WrittenFile]) -> float:
    tables: list[pa.Table] = []
    apart = 0
    for file in files:
        if tables and apart + file.size > _MOST_MERGED:
            break
        tables.append(parquet_of(storage.read(file.name)).read(use_threads=False))
        apart += file.size
    if len(tables) == 1:
        return float(len(encode(tables[0].slice(0, 0))))
    return max(0.0, (apart - len(encode(pa.concat_tables(tables)))) / (len(tables) - 1))
