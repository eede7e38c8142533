"""An operation of another package: numbers to their squares, with nothing but the protocol."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from restyle.pipeline.accounting.findings import columns
from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.accounting.proof import Proof, SetFindings, Tables
from restyle.pipeline.accounting.run_record import Asked, Described
from restyle.pipeline.execution.job import Job, StageSpec, Stepped
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.stages import ComputeStage
from restyle.pipeline.execution.task import Task
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.datasets import encode
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.manifest import Origin, PlanReader, Unit, UnitRef
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned, Planner
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import Storage

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("revision", pa.int16(), nullable=False),
        pa.field("square", pa.int64(), nullable=False),
    ]
)


class SquareSettings(Settings):
    """What shapes the rows."""

    power: int = 2

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(str(self.power).encode()).hexdigest()


class SquareProof(Proof):
    datasets = ("squares",)
    keys = ("image_id", "revision")

    def schema(self, dataset: str, found: pa.Schema) -> pa.Schema:
        return SCHEMA

    def manifest_problems(self) -> Iterator[str]:
        return iter(())

    def count(self, files: FileSet, units: Sequence[Unit], tables: Tables) -> SetFindings:
        planned = sorted(
            (image.image_id, image.revision) for unit in units for image in unit.images
        )
        found = sorted(columns(tables["squares"], *self.keys)) if tables else []
        return SetFindings([] if planned == found else ["other rows"], len(found), len(found))


class Squares(Operation[SquareSettings]):
    name = "squares"
    holds = "squares"
    settings_file = "_ledger/square-settings.json"
    datasets = ("squares",)
    is_revised = True
    settings_type = SquareSettings

    def schema(self, dataset: str, settings: SquareSettings, found: pa.Schema) -> pa.Schema:
        return SCHEMA

    def proof(self, storage: Storage, settings: SquareSettings, done: Collection[str]) -> Proof:
        return SquareProof(storage, settings.fingerprint)

    def write_report(self, output: Output, settings: SquareSettings) -> str:
        output.storage.write("report.html", b"<p>squares")
        return output.storage.shown("report.html")


SQUARES = Squares()


@dataclass(frozen=True)
class SquareJob(Job):
    out: str
    settings: SquareSettings
    device: str = "cpu"
    threads: int = 1
    stages: tuple[StageSpec, ...] = ()

    @property
    def fingerprint(self) -> str:
        return self.settings.fingerprint


class SquareStage(ComputeStage[SquareJob, UnitRef]):
    """Squares numbers, which are the names of the inputs; dies where it is told to."""

    def _started(self, threads: int, stepped: Stepped) -> SquareStage._Compute:
        return self._Compute(PlanReader(self._storage))

    @dataclass
    class _Compute:
        plans: PlanReader
        worker_info: ClassVar[WorkerInfo] = WorkerInfo("cpu", "", "int64", "none")

        def __call__(self, ref: UnitRef) -> EncodedUnit:
            images = self.plans.read(ref).images
            marker = os.environ.get("SQUARES_DIE_AT", "")
            if marker and any(image.source == marker for image in images):
                os.kill(os.getpid(), 9)
            rows = [
                {
                    "image_id": each.image_id,
                    "revision": each.revision,
                    "square": int(each.source) ** 2,
                }
                for each in images
            ]
            data = encode(pa.Table.from_pylist(rows, SCHEMA))
            files = {"squares": (data, len(rows))}
            return EncodedUnit(ref.name, len(rows), len(rows), {}, files, {}, {})

        def close(self) -> None:
            pass

    def _name_of(self, unit: UnitRef) -> str:
        return unit.name

    def _given_up(self, unit: UnitRef) -> EncodedUnit:
        raise NotImplementedError


class SquareTask(Task):
    operation = SQUARES

    def __init__(self, out: Path, count: int, workers: Workers) -> None:
        self.output, self.count = Output.at(str(out)), count
        self.settings = SquareSettings()
        self.earlier = SQUARES.read_settings(self.output.storage)
        self.device, self.workers = "cpu", workers
        self.dtype, self.dtype_reason = "fp32", "numbers"

    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        numbers = [
            SourceImage(image_id(str(number).encode()), str(number), str(number).encode(), 1, "")
            for number in range(self.count)
        ]
        planner = Planner(planned_inputs, Origin("numbers"), listener, before_first)
        return planner.plan([numbers])

    def job(self, device: str, images: float) -> SquareJob:
        stages = (StageSpec("squaring", "compute", SquareStage, 1),)
        return SquareJob(self.output.address, self.settings, stages=stages)

    def title(self) -> str:
        return "squares"

    def asked(self) -> Asked:
        return Asked(
            source="numbers",
            out=self.output.address,
            limit=None,
            device="cpu",
            batch_size=None,
            max_reject_rate=1.0,
        )

    def described(self) -> Described:
        return Described("squares", {"name": "squares"})
