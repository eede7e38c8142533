"""What a run was asked, what it used, and what came of it: ``run.json``, and a dated copy per run.

``run.json`` tells of the last run that had something to do. ``_ledger/run-STAMP-NONCE.json`` tells
of one run each, also of those that found nothing to do, and is what ``restyle runs`` lists.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.accounting.summary import Summary
from restyle.pipeline.ledger.entries import FOLDER
from restyle.pipeline.storage.filesystem import Storage

NAME = "run.json"

State = Literal["running", "complete", "interrupted", "failed"]
Command = Literal["invert", "retry-rejects", "edit"]

_DATED = f"{FOLDER}/run-"
_SUFFIX = ".json"

_PACKAGES = ("restyle-pipeline", "torch", "ray", "pyarrow", "numpy", "pillow", "dlib-bin")


class Asked(BaseModel):
    """The command, as far as it does not shape the rows. Holds no credentials.

    Attributes:
        source: ``INPUT``, fit to be shown.
        out: the output, fit to be shown.
        limit: inputs planned at most.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch.
        max_reject_rate: share of rejects at which the run stops.
        command: the command of ``restyle``.
        input_format: how ``INPUT`` was read.
        column: of Parquet and CSV; None for the only one that can be meant.
        address: of the Ray cluster; None for one on this machine alone.
        align_actors: fewest and most; None for what suits the cluster.
        invert_actors: the same.
        gpus_per_actor: None for what suits the device.
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
    address: str | None = None
    align_actors: tuple[int, int] | None = None
    invert_actors: tuple[int, int] | None = None
    gpus_per_actor: float | None = None
    executor: str = "auto"


class Counts(BaseModel):
    """Where the output stands; see :class:`restyle.pipeline.accounting.summary.Summary`."""

    model_config = ConfigDict(extra="forbid")

    units: int
    pending_units: int
    images: int
    pending_images: int
    faces: int
    rejected: int
    rejects: dict[str, int]


class Timings(BaseModel):
    """How long the last run took.

    Attributes:
        started: ISO 8601, UTC.
        finished: the same; None while it runs.
        seconds: wall time from the command to the report.
        images: inputs that this run accounted for.
        rejects: those of them that were rejected.
        images_per_second: of this run, once its workers had started.
        stages: seconds spent in each stage, summed over all units of the output.
    """

    model_config = ConfigDict(extra="forbid")

    started: str
    finished: str | None = None
    seconds: float = 0.0
    images: int = 0
    rejects: int = 0
    images_per_second: float | None = None
    stages: dict[str, float] = {}


class RunRecord(BaseModel):
    """The content of ``run.json``, and of a run's dated copy.

    Attributes:
        format: version of this file.
        run: names the run: when it started, and a nonce; see :func:`run_name`.
        new: inputs that this run was the first to plan.
        changed: inputs planned again because they are no longer the file that was planned.
        vanished: planned inputs that ``INPUT`` no longer holds; their rows stay.
        state: how the run ended, or that it has not.
        error: why it failed.
        asked: the command.
        operation: what the run does, ``inversion``.
        settings: what shapes the rows, resolved.
        fingerprint: of the settings.
        model: name, domain, encoder, image size and fingerprint of the model.
        device: where it was computed.
        dtype: what it was computed in.
        dtype_reason: why.
        kernels: by which of the generator's operators, and why.
        workers: where and how the workers of the run computed, each way once.
        steps: refinement steps; None where nothing is refined.
        reconstructions: which were kept; None where there are none.
        metrics: which were measured.
        means: mean of each metric at each step.
        counts: where the output stands.
        timings: of the last run.
        versions: of what it was computed with.
        machine: what it was computed on.
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
    steps: int | None = None
    reconstructions: str | None = None
    metrics: list[str] = []
    means: dict[str, list[float | None]] = {}
    counts: Counts
    timings: Timings
    versions: dict[str, str]
    machine: dict[str, str | int]


@dataclass(frozen=True)
class Described:
    """What is told of an operation itself.

    Attributes:
        operation: its name.
        model: name, domain, encoder, image size and fingerprint of the model.
        steps: as in :class:`RunRecord`, and so are the following.
        reconstructions: the same.
        metrics: the same.
    """

    operation: str
    model: dict[str, str | list[int]]
    steps: int | None = None
    reconstructions: str | None = None
    metrics: tuple[str, ...] = ()


def counts(summary: Summary) -> Counts:
    """The part of a summary that ``run.json`` counts."""
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
    """The time as ``run.json`` writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, str | int]:
    """What this computer is, without its name."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 0,
    }


def write_run(storage: Storage, record: RunRecord) -> None:
    """Replace ``run.json``."""
    storage.write(NAME, record.model_dump_json(indent=2).encode())


def read_run(storage: Storage) -> RunRecord | None:
    """``run.json``, or None when there is none that can be read."""
    try:
        return RunRecord.model_validate_json(storage.read(NAME))
    except (FileNotFoundError, ValidationError):
        return None


def spec_of(storage: Storage, model: str) -> str:
    """Where the last run of an output found its model, or else the model's name."""
    run = read_run(storage)
    spec = run.model.get("spec") if run is not None else None
    return as_begun(storage, spec) if isinstance(spec, str) else model


def as_begun(storage: Storage, spec: str) -> str:
    """A model as the last run of an output took it.

    Args:
        storage: the output.
        spec: as ``load_model`` takes it.

    Returns:
        The same; a published checkpoint for the domain for which it was taken then, which another
        version may choose otherwise.
    """
    run = read_run(storage)
    domain = run.model.get("domain") if run is not None else None
    path, colon, _ = spec.rpartition(":")
    is_open = Path(spec).is_file() and not (colon and Path(path).is_file())
    if run is None or not is_open or run.model.get("name") != Path(spec).stem:
        return spec
    return f"{spec}:{domain}" if isinstance(domain, str) and domain else spec


def run_name() -> str:
    """A name for a run that starts now: ``20260131T235959.123456Z-1f2e3d4c``; sorts by time."""
    # To the microsecond: runs that take a tenth of a second are listed in order, too.
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def dated_name(run: str) -> str:
    """Where the dated record of a run lies in its output."""
    return f"{_DATED}{run}{_SUFFIX}"


def archive_run(storage: Storage, record: RunRecord) -> str:
    """Write, or replace, the dated record of a run, and return its name.

    To be called when a run begins, with the state ``running``, and again when it ends, also when
    there was nothing to do: a run that was killed then still has its line in ``restyle runs``.
    """
    name = dated_name(record.run)
    storage.write(name, record.model_dump_json(indent=1).encode())
    return name


def read_runs(storage: Storage, last: int | None = None) -> list[RunRecord | str]:
    """Dated records, the oldest first.

    Args:
        storage: the output.
        last: only so many of the newest; only these are read.

    Returns:
        Records; in place of one that cannot be understood, where it is.
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
