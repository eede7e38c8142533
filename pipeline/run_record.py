"""``run.json``: what a run was asked, what it used, and what came of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.settings import ResolvedSettings
from pipeline.storage import Storage
from pipeline.summary import Summary

NAME = "run.json"

State = Literal["running", "complete", "interrupted", "failed"]

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
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    out: str
    limit: int | None
    device: str
    batch_size: int | None
    max_reject_rate: float


class Counts(BaseModel):
    """Where the output stands; see :class:`pipeline.summary.Summary`."""

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
        images_per_second: of this run, once its workers had started.
        stages: seconds spent in each stage, summed over all units of the output.
    """

    model_config = ConfigDict(extra="forbid")

    started: str
    finished: str | None = None
    seconds: float = 0.0
    images: int = 0
    images_per_second: float | None = None
    stages: dict[str, float] = {}


class RunRecord(BaseModel):
    """The content of ``run.json``.

    Attributes:
        format: version of this file.
        state: how the run ended, or that it has not.
        error: why it failed.
        asked: the command.
        settings: what shapes the rows, resolved.
        fingerprint: of the settings.
        model: name, domain, encoder, image size and fingerprint of the model.
        device: where it was computed.
        dtype: what it was computed in.
        dtype_reason: why.
        steps: refinement steps.
        reconstructions: which were kept.
        metrics: which were measured.
        means: mean of each metric at each step.
        counts: where the output stands.
        timings: of the last run.
        versions: of what it was computed with.
        machine: what it was computed on.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    state: State
    error: str | None = None
    asked: Asked
    settings: ResolvedSettings
    fingerprint: str
    model: dict[str, str | list[int]]
    device: str
    dtype: str
    dtype_reason: str
    steps: int
    reconstructions: str
    metrics: list[str]
    means: dict[str, list[float | None]] = {}
    counts: Counts
    timings: Timings
    versions: dict[str, str]
    machine: dict[str, str | int]


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
