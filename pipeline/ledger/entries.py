"""The ledger: a unit is done exactly when an entry names it.

A unit that was just run has a small entry and small files of its own. Compaction puts many units
into a pack: one entry for all of them, and one file in each dataset. Where a unit stands in several
entries, because compaction was stopped before it removed what it had merged, the pack of the
highest generation counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.core.errors import FatalError
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.storage.filesystem import Storage

FOLDER = "_ledger"
SETTINGS_FILE = f"{FOLDER}/settings.json"
_PREFIX = f"{FOLDER}/unit-"
_PACK_PREFIX = f"{FOLDER}/pack-"
_SUFFIX = ".json"
_READ_AT_ONCE = 256

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

    # Never out of the output, whoever wrote the entry.
    name: Annotated[str, Field(pattern=r"^\w[\w-]*/\w[\w.-]*$")]
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


class PackRecord(_Frozen):
    """What is known about units whose rows were merged into common files.

    Attributes:
        format: version of this file.
        pack: its name, a digest of what it was made of.
        generation: one more than that of any pack it was made of; 1 for a pack of units alone.
        units: as they were committed, without files.
        files: at most one in each dataset.
    """

    format: Literal[1] = 1
    pack: str
    generation: Annotated[int, Field(ge=1)]
    units: tuple[UnitRecord, ...]
    files: tuple[WrittenFile, ...]


@dataclass(frozen=True)
class FileSet:
    """Units whose rows stand in the same files: a unit by itself, or those of a pack.

    Attributes:
        units: in the order of their names.
        files: at most one in each dataset.
        pack: name of the pack; empty for a unit by itself.
        generation: of the pack; 0 for a unit by itself.
    """

    units: tuple[UnitRecord, ...]
    files: tuple[WrittenFile, ...]
    pack: str = ""
    generation: int = 0

    @property
    def faces(self) -> int:
        """Rows in ``latents``."""
        return sum(unit.faces for unit in self.units)

    @property
    def name(self) -> str:
        """What their files are named after."""
        return f"pack-{self.pack}" if self.pack else self.units[0].unit

    @classmethod
    def of_pack(cls, pack: PackRecord) -> FileSet:
        """The units of a pack."""
        return cls(pack.units, pack.files, pack.pack, pack.generation)


@dataclass(frozen=True)
class Entries:
    """The entries of a ledger, those of single units unread.

    Attributes:
        single: names of the units that have an entry of their own and stand in no pack.
        packs: that count, by name.
        outdated: names of units that stand in a pack and still have an entry of their own.
        replaced: packs that a later one holds the units of.
    """

    single: frozenset[str]
    packs: tuple[PackRecord, ...]
    outdated: frozenset[str]
    replaced: tuple[PackRecord, ...]

    @property
    def units(self) -> set[str]:
        """Names of all units that are done."""
        return {unit.unit for pack in self.packs for unit in pack.units} | self.single


def read_entries(storage: Storage) -> Entries:
    """Look through the ledger.

    Raises:
        FatalError: the entry of a pack is damaged.
    """
    names = list(storage.sizes(FOLDER))
    single = {name[len(_PREFIX) : -len(_SUFFIX)] for name in names if _is_entry(name, _PREFIX)}
    packs = _read_packs(storage, [name for name in names if _is_entry(name, _PACK_PREFIX)])
    winners: dict[str, PackRecord] = {}
    for pack in sorted(packs, key=lambda pack: (pack.generation, pack.pack)):
        winners |= {unit.unit: pack for unit in pack.units}
    counting = {pack.pack for pack in winners.values()}
    return Entries(
        single=frozenset(single - winners.keys()),
        packs=tuple(pack for pack in packs if pack.pack in counting),
        outdated=frozenset(single & winners.keys()),
        replaced=tuple(pack for pack in packs if pack.pack not in counting),
    )


def committed(storage: Storage) -> set[str]:
    """Names of the units that are done."""
    return read_entries(storage).units


def commit(storage: Storage, record: UnitRecord) -> None:
    """Declare a unit done. Everything that the record names must have been written before."""
    storage.write(_entry(record.unit), record.model_dump_json(indent=1).encode())


def replace(storage: Storage, files: FileSet) -> None:
    """Commit a pack, or a unit by itself, in place of what its entry said before.

    The files must have been written before.
    """
    if not files.pack:
        commit(storage, files.units[0].model_copy(update={"files": files.files}))
        return
    record = PackRecord(
        pack=files.pack, generation=files.generation, units=files.units, files=files.files
    )
    storage.write(_pack_entry(files.pack), record.model_dump_json().encode())


def read_records(
    storage: Storage, units: list[str], entries: Entries | None = None
) -> list[UnitRecord]:
    """The entries of committed units, in the order asked for; units of packs have no files.

    Args:
        storage: the output.
        units: names.
        entries: the ledger, where it was looked through already.

    Raises:
        FatalError: an entry is damaged.
    """
    if entries is None:
        entries = read_entries(storage)
    packed = {record.unit: record for pack in entries.packs for record in pack.units}
    names = [name for name in units if name not in packed]
    found = dict(zip(names, _read_single(storage, names), strict=True))
    return [packed[name] if name in packed else found[name] for name in units]


def find(storage: Storage, unit: str) -> UnitRecord | None:
    """The entry that a unit has by itself; None when it has none.

    Raises:
        FatalError: it is damaged.
    """
    try:
        data = storage.read(_entry(unit))
    except FileNotFoundError:
        return None
    return _parsed(storage, _entry(unit), data)


def read_file_sets(storage: Storage, entries: Entries | None = None) -> Iterator[FileSet]:
    """All files that are committed, with their units: packs first, few entries in memory at a time.

    Args:
        storage: the output.
        entries: the ledger, where it was looked through already.

    Raises:
        FatalError: an entry is damaged.
    """
    if entries is None:
        entries = read_entries(storage)
    for pack in entries.packs:
        yield FileSet.of_pack(pack)
    yield from read_single(storage, sorted(entries.single))


def read_single(storage: Storage, units: list[str]) -> Iterator[FileSet]:
    """Units by themselves, a few entries in memory at a time.

    Raises:
        FatalError: an entry is damaged.
    """
    for start in range(0, len(units), _READ_AT_ONCE):
        for record in _read_single(storage, units[start : start + _READ_AT_ONCE]):
            yield FileSet((record,), record.files)


def remove(storage: Storage, files: FileSet) -> None:
    """Forget an entry: that of a pack, or the one that a unit has by itself."""
    storage.delete(_pack_entry(files.pack) if files.pack else _entry(files.units[0].unit))


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


def _read_single(storage: Storage, units: list[str]) -> Iterator[UnitRecord]:
    names = [_entry(unit) for unit in units]
    for name, data in zip(names, _read(storage, names), strict=True):
        yield _parsed(storage, name, data)


def _parsed(storage: Storage, name: str, data: bytes) -> UnitRecord:
    try:
        return UnitRecord.model_validate_json(data)
    except ValidationError as error:
        raise FatalError(
            f"{storage.shown(name)} is damaged; delete it to have its unit run again"
        ) from error


def _read_packs(storage: Storage, names: list[str]) -> list[PackRecord]:
    packs = []
    for name, data in zip(names, _read(storage, names), strict=True):
        try:
            packs.append(PackRecord.model_validate_json(data))
        except ValidationError as error:
            raise FatalError(
                f"{storage.shown(name)} is damaged; restore it, or delete it to have its units "
                "run again"
            ) from error
    return packs


def _read(storage: Storage, names: list[str]) -> list[bytes]:
    try:
        return storage.read_many(names)
    except FileNotFoundError as error:
        raise FatalError(
            f"the ledger of {storage.uri} changed while it was read, as restyle compact does; "
            "run the same command again"
        ) from error


def _entry(unit: str) -> str:
    return f"{_PREFIX}{unit}{_SUFFIX}"


def _pack_entry(pack: str) -> str:
    return f"{_PACK_PREFIX}{pack}{_SUFFIX}"


def _is_entry(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.endswith(_SUFFIX)
