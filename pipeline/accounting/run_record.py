"""Run records: the request, environment and result of a run, in ``run.json`` and a dated copy.

``run.json`` describes the last run that processed units. Each ``_ledger/run-STAMP-NONCE.json``
describes one run, including runs without pending units; ``restyle runs`` lists these files.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.pipeline.accounting.machine import WorkerInfo, WorkerUse
from restyle.pipeline.accounting.summary import Summary, Tally
from restyle.pipeline.ledger.entries import FOLDER
from restyle.pipeline.storage.filesystem import Storage

NAME = "run.json"

State = Literal["running", "complete", "interrupted", "failed"]
Command = Literal["invert", "retry-rejects", "edit"]

_DATED = f"{FOLDER}/run-"
_SUFFIX = ".json"

_PACKAGES = ("restyle-pipeline", "torch", "ray", "pyarrow", "numpy", "pillow", "dlib-bin")


class Asked(BaseModel):
    """Options of the command that do not affect the rows. Contains no credentials.

    Attributes:
        source: ``INPUT`` without credentials.
        out: Path or URI of the output, without credentials.
        limit: Maximum number of inputs to plan; None for all.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: Faces per batch; None for the model's default.
        max_reject_rate: Share of rejected inputs, 0 to 1, above which the run stops.
        command: Subcommand of ``restyle``.
        input_format: Format of ``INPUT``.
        column: Column of a Parquet or CSV input; None if chosen automatically.
        landmarks: File with the landmarks of faces, without credentials; None if detected.
        address: Address of the Ray cluster; None for a local cluster that ends with the run.
        align_actors: Minimum and maximum number of alignment actors; None if chosen automatically.
        invert_actors: Minimum and maximum number of inversion actors; None if chosen automatically.
        gpus_per_actor: GPUs per inversion actor; None if chosen by device.
        executor: ``auto``, ``local`` or ``ray``.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    out: str
    limit: int | None
    device: str
    batch_size: int | None
    max_reject_rate: float
    command: Command = "invert"
    input_format: str = "auto"
    column: str | None = None
    landmarks: str | None = None
    address: str | None = None
    align_actors: tuple[int, int] | None = None
    invert_actors: tuple[int, int] | None = None
    gpus_per_actor: float | None = None
    executor: str = "auto"


class Counts(BaseModel):
    """Counts of an output; see :class:`restyle.pipeline.accounting.summary.Summary`."""

    model_config = ConfigDict(extra="forbid")

    units: int
    pending_units: int
    images: int
    pending_images: int
    faces: int
    rejected: int
    rejects: dict[str, int]

    def after(self, done: Tally) -> Counts:
        """Return these counts after some of the pending units were committed.

        Args:
            done: sums over the units.
        """
        rejects = Counter(self.rejects) + Counter(done.rejects)
        return Counts(
            units=self.units,
            pending_units=self.pending_units - done.units,
            images=self.images,
            pending_images=self.pending_images - done.images,
            faces=self.faces + done.faces,
            rejected=self.rejected + done.rejected,
            rejects=dict(rejects.most_common()),
        )


class Timings(BaseModel):
    """Duration and throughput of a run.

    Attributes:
        started: Start time, ISO 8601 in UTC.
        finished: End time in the same format; None while the run is in progress.
        seconds: Wall time in seconds from the command to the record.
        images: Number of inputs processed by this run, rejects included.
        rejects: Number of these inputs that were rejected.
        images_per_second: Throughput, measured from the moment the workers had started.
        stages: Seconds spent in each stage, summed over all units of the output; of the parts of
            alignment, summed over its processes.
        bottleneck: Which stage makes the other wait, and what to do; empty if it is not known.
    """

    model_config = ConfigDict(extra="forbid")

    started: str
    finished: str | None = None
    seconds: float = 0.0
    images: int = 0
    rejects: int = 0
    images_per_second: float | None = None
    stages: dict[str, float] = {}
    bottleneck: str = ""


class RunRecord(BaseModel):
    """Content of ``run.json`` and of a run's dated copy.

    Attributes:
        format: Version of the file format.
        run: Name of the run, a start time and a nonce; see :func:`run_name`.
        new: Number of inputs planned for the first time by this run.
        changed: Number of inputs planned again because their file changed.
        vanished: Number of planned inputs that ``INPUT`` no longer lists; their rows stay.
        state: ``running``, ``complete``, ``interrupted`` or ``failed``.
        error: Error message of a failed run; None otherwise.
        asked: Options of the command.
        operation: Name of the operation, such as ``inversion``.
        settings: Resolved settings of the output.
        fingerprint: Fingerprint of the settings.
        model: Name, domain, encoder, image size and fingerprint of the model.
        device: Devices of the workers.
        dtype: Precision of the computation.
        dtype_reason: The precision and the reason for it.
        kernels: Implementation of the generator's operators, and the reason for it.
        workers: Distinct configurations of the workers.
        used: What each worker has done: on a machine with several GPUs, one entry for each.
        steps: Number of refinement steps; None if the operation has none.
        reconstructions: Steps whose images are kept; None if the operation has none.
        metrics: Names of the measured metrics.
        means: Mean of each metric at each step.
        worsened: For each metric, number of faces with a worse value one step later.
        counts: Counts of the whole output.
        this_run: Sums over the units that this run committed; zeros in records of earlier versions.
        timings: Duration and throughput of the run.
        versions: Versions of Python and of the main packages.
        machine: Operating system, architecture and number of cores of the driver.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    run: str = Field(default_factory=lambda: run_name())
    new: int = 0
    changed: int = 0
    vanished: int = 0
    state: State
    error: str | None = None
    asked: Asked
    operation: str = "inversion"
    settings: dict[str, Any]
    fingerprint: str
    model: dict[str, str | list[int]]
    device: str
    dtype: str
    dtype_reason: str
    kernels: str = ""
    workers: list[WorkerInfo] = []
    used: list[WorkerUse] = []
    steps: int | None = None
    reconstructions: str | None = None
    metrics: list[str] = []
    means: dict[str, list[float | None]] = {}
    worsened: dict[str, list[int]] = {}
    counts: Counts
    this_run: Tally = Tally()
    timings: Timings
    versions: dict[str, str]
    machine: dict[str, str | int]


@dataclass(frozen=True)
class Described:
    """Fields of a :class:`RunRecord` that depend on the operation.

    Attributes:
        operation: Name of the operation.
        model: Name, domain, encoder, image size and fingerprint of the model.
        steps: Number of refinement steps; None if the operation has none.
        reconstructions: Steps whose images are kept; None if the operation has none.
        metrics: Names of the measured metrics.
    """

    operation: str
    model: dict[str, str | list[int]]
    steps: int | None = None
    reconstructions: str | None = None
    metrics: tuple[str, ...] = ()


def counts(summary: Summary) -> Counts:
    """Return the counts of a summary as ``run.json`` stores them."""
    return Counts(
        units=summary.units,
        pending_units=summary.pending_units,
        images=summary.images,
        pending_images=summary.pending_images,
        faces=summary.faces,
        rejected=summary.rejected,
        rejects=summary.rejects,
    )


def now() -> str:
    """Return the current time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, str | int]:
    """Describe this computer without its host name."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 0,
    }


def write_run(storage: Storage, record: RunRecord) -> None:
    """Replace ``run.json``."""
    storage.write(NAME, record.model_dump_json(indent=2).encode())


def read_run(storage: Storage) -> RunRecord | None:
    """Read ``run.json``; None if it is missing or damaged."""
    try:
        return RunRecord.model_validate_json(storage.read(NAME))
    except (FileNotFoundError, ValidationError):
        return None


def spec_of(storage: Storage, model: str) -> str:
    """Return the model spec that the last run used, or ``model`` if no record has one."""
    run = read_run(storage)
    spec = run.model.get("spec") if run is not None else None
    return as_begun(storage, spec) if isinstance(spec, str) else model


def as_begun(storage: Storage, spec: str) -> str:
    """Add to a checkpoint's spec the domain that the last run of the output used.

    Another version of restyle may choose another default domain for a published checkpoint.

    Args:
        storage: the output.
        spec: a model spec in the form that ``load_model`` takes.

    Returns:
        ``FILE:DOMAIN`` if ``spec`` is the last run's checkpoint without a domain, else ``spec``.
    """
    run = read_run(storage)
    domain = run.model.get("domain") if run is not None else None
    path, colon, _ = spec.rpartition(":")
    is_open = Path(spec).is_file() and not (colon and Path(path).is_file())
    if run is None or not is_open or run.model.get("name") != Path(spec).stem:
        return spec
    return f"{spec}:{domain}" if isinstance(domain, str) and domain else spec


def run_name() -> str:
    """Return a new run name, which sorts by time: ``20260131T235959.123456Z-1f2e3d4c``."""
    # Microseconds keep short runs within the same second in order.
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def dated_name(run: str) -> str:
    """Return the path of a run's dated record, relative to the output."""
    return f"{_DATED}{run}{_SUFFIX}"


def archive_run(storage: Storage, record: RunRecord) -> str:
    """Write or replace the dated record of a run, and return its name.

    A run calls this at its start, with the state ``running``, and at its end, so that
    ``restyle runs`` also lists a run that was killed. A run without pending units calls it once.
    """
    name = dated_name(record.run)
    storage.write(name, record.model_dump_json(indent=1).encode())
    return name


def read_runs(storage: Storage, last: int | None = None) -> list[RunRecord | str]:
    """Read the dated records, the oldest first.

    Args:
        storage: the output.
        last: read only this many of the newest records; None for all.

    Returns:
        The records; a damaged record is replaced by its path.
    """
    names = [
        name for name in storage.sizes(FOLDER) if name.startswith(_DATED) and name.endswith(_SUFFIX)
    ]
    names = names[-last:] if last else names
    runs: list[RunRecord | str] = []
    for name, data in zip(names, storage.read_many(names), strict=True):
        try:
            runs.append(RunRecord.model_validate_json(data))
        except ValidationError:
            runs.append(storage.shown(name))
    return runs
