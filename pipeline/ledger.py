"""The ledger: one small file per committed unit. A unit is done exactly when its entry is there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.settings import ResolvedSettings
from pipeline.storage import Storage
from restyle_core.errors import FatalError

FOLDER = "_ledger"
SETTINGS_FILE = f"{FOLDER}/settings.json"
_PREFIX = f"{FOLDER}/unit-"
_SUFFIX = ".json"

Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WrittenFile(_Frozen):
    """One dataset file of a unit.

    Attributes:
        name: relative to the output.
        rows: rows in it.
        size: bytes.
        sha256: checksum of the whole file, in hex.
    """

    name: str
    rows: Count
    size: Count
    sha256: str


class MetricSums(_Frozen):
    """Sums of one metric over the faces of a unit, so that means need no dataset to be read.

    Attributes:
        total: sum at each step, over the faces where it is a number.
        count: how many those were, at each step.
    """

    total: tuple[float, ...]
    count: tuple[Count, ...]


class UnitRecord(_Frozen):
    """What is known about a committed unit.

    Attributes:
        format: version of this file.
        unit: name in the manifest.
        fingerprint: of the settings it was run with.
        images: inputs.
        faces: rows in ``latents``.
        rejects: inputs without a latent, by reason.
        files: what was written, none without rows.
        metrics: sums of each metric.
        seconds: wall time by stage.
        superseded: inputs of which a later revision was done when this was last looked at.
        dropped: rejects among them, whose rows were taken out of ``rejects`` for that.
    """

    format: Literal[1] = 1
    unit: str
    fingerprint: str
    images: Count
    faces: Count
    rejects: dict[str, Count]
    files: tuple[WrittenFile, ...]
    metrics: dict[str, MetricSums]
    seconds: dict[str, float]
    superseded: Count = 0
    dropped: Count = 0


def committed(storage: Storage) -> set[str]:
    """Names of the units that are done."""
    return {
        name[len(_PREFIX) : -len(_SUFFIX)]
        for name in storage.sizes(FOLDER)
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    }


def commit(storage: Storage, record: UnitRecord) -> None:
    """Declare a unit done. Everything that the record names must have been written before."""
    storage.write(_entry(record.unit), record.model_dump_json(indent=1).encode())


def read_records(storage: Storage, units: list[str]) -> list[UnitRecord]:
    """The entries of committed units, in the order asked for.

    Raises:
        FatalError: an entry is damaged.
    """
    names = [_entry(unit) for unit in units]
    records = []
    for name, data in zip(names, storage.read_many(names), strict=True):
        try:
            records.append(UnitRecord.model_validate_json(data))
        except ValidationError as error:
            raise FatalError(
                f"{storage.shown(name)} is damaged; delete it to have its unit run again"
            ) from error
    return records


def read_settings(storage: Storage) -> ResolvedSettings | None:
    """The settings that this output is made with; None before the first run."""
    try:
        data = storage.read(SETTINGS_FILE)
    except FileNotFoundError:
        return None
    return ResolvedSettings.parse(data, storage.shown(SETTINGS_FILE))


def write_settings(storage: Storage, settings: ResolvedSettings) -> None:
    """Bind an output to its settings."""
    storage.write(SETTINGS_FILE, settings.model_dump_json(indent=1).encode())


def _entry(unit: str) -> str:
    return f"{_PREFIX}{unit}{_SUFFIX}"
