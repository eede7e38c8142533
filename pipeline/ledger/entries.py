"""The ledger: a unit is committed exactly when an entry names it.

A unit first has its own small entry and its own small files. Compaction merges many units into a
pack, with one entry and one file per dataset. If several entries name a unit, because a compaction
was killed before it removed the merged entries, the pack with the highest generation counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from restyle.core.errors import DamagedError, FatalError
from restyle.pipeline.ledger.records import (
    MOST_NOTES,
    FileSet,
    MetricSums,
    PackRecord,
    UnitRecord,
    WrittenFile,
)
from restyle.pipeline.storage.filesystem import Storage

__all__ = ["MOST_NOTES", "FileSet", "MetricSums", "PackRecord", "UnitRecord", "WrittenFile"]

FOLDER = "_ledger"
SETTINGS_FILE = f"{FOLDER}/settings.json"
_PREFIX = f"{FOLDER}/unit-"
_PACK_PREFIX = f"{FOLDER}/pack-"
_SUFFIX = ".json"
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class Entries:
    """The entries of a ledger; the entries of single units are listed but not read.

    Attributes:
        single: Names of the units with their own entry that are in no pack.
        packs: Current packs, ordered by name.
        outdated: Names of the units in a pack whose own entry still exists.
        replaced: Packs whose units are in a pack of a higher generation.
    """

    single: set[str]
    packs: tuple[PackRecord, ...]
    outdated: frozenset[str]
    replaced: tuple[PackRecord, ...]

    @property
    def units(self) -> set[str]:
        """Names of all committed units."""
        return {unit.unit for pack in self.packs for unit in pack.units} | self.single


def read_entries(storage: Storage, names: Sequence[str] | None = None) -> Entries:
    """List the ledger and read the entries of its packs.

    Args:
        storage: the output.
        names: names of the files in the ledger; None to list them.

    Raises:
        FatalError: the entry of a pack is damaged, or two current packs contain the same unit.
    """
    names = list(storage.sizes(FOLDER)) if names is None else names
    single = {name[len(_PREFIX) : -len(_SUFFIX)] for name in names if _is_entry(name, _PREFIX)}
    packs = _read_packs(storage, [name for name in names if _is_entry(name, _PACK_PREFIX)])
    winners: dict[str, PackRecord] = {}
    for pack in sorted(packs, key=lambda pack: (pack.generation, pack.pack)):
        winners |= {unit.unit: pack for unit in pack.units}
    counting = {pack.pack for pack in winners.values()}
    for pack in packs:
        # A compaction merges whole packs, so a pack cannot be replaced in part.
        lost = [unit.unit for unit in pack.units if winners[unit.unit] is not pack]
        if lost and pack.pack in counting:
            raise FatalError(
                f"{storage.shown(_pack_entry(pack.pack))} and "
                f"{storage.shown(_pack_entry(winners[lost[0]].pack))} both hold unit {lost[0]}; "
                f"see `restyle repair {storage.uri}`"
            )
    return Entries(
        single=single - winners.keys(),
        packs=tuple(pack for pack in packs if pack.pack in counting),
        outdated=frozenset(single & winners.keys()),
        replaced=tuple(pack for pack in packs if pack.pack not in counting),
    )


def commit(storage: Storage, record: UnitRecord) -> None:
    """Commit a unit. All files named by the record must have been written before."""
    storage.write(_entry(record.unit), record.model_dump_json(indent=1).encode())


def replace(storage: Storage, files: FileSet) -> None:
    """Write the entry of a pack or a single unit, replacing an existing one.

    The files must have been written before.
    """
    if not files.pack:
        commit(storage, files.units[0].model_copy(update={"files": files.files}))
        return
    storage.write(_pack_entry(files.pack), _record_of(files).model_dump_json().encode())


def read_records(
    storage: Storage, units: list[str], entries: Entries | None = None
) -> list[UnitRecord]:
    """Read the entries of committed units.

    Args:
        storage: the output.
        units: names of the units.
        entries: the ledger's entries; None to read them.

    Returns:
        One entry per name, in the order of ``units``; the entries of packed units have no files.

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
    """Read a unit's own entry; None if it has none.

    Raises:
        FatalError: the entry is damaged.
    """
    try:
        data = storage.read(_entry(unit))
    except FileNotFoundError:
        return None
    return _parsed(storage, _entry(unit), data).units[0]


def entry_names(storage: Storage) -> list[str]:
    """Return the paths of all entries, relative to the output, packs first."""
    names = list(storage.sizes(FOLDER))
    return [name for prefix in (_PACK_PREFIX, _PREFIX) for name in names if _is_entry(name, prefix)]


def entry_name(files: FileSet) -> str:
    """Return the path of an entry, relative to the output."""
    return _pack_entry(files.pack) if files.pack else _entry(files.units[0].unit)


def read_entry(storage: Storage, name: str) -> FileSet:
    """Read one entry by its path, relative to the output.

    Raises:
        FatalError: the entry is damaged, belongs under another name, or cannot be read.
    """
    return _parsed(storage, name, _read(storage, [name])[0])


def read_file_sets(storage: Storage, entries: Entries | None = None) -> Iterator[FileSet]:
    """Yield the content of all entries, packs first, with few single entries in memory at a time.

    Args:
        storage: the output.
        entries: the ledger's entries; None to read them.

    Raises:
        FatalError: an entry is damaged.
    """
    if entries is None:
        entries = read_entries(storage)
    for pack in entries.packs:
        yield FileSet.of_pack(pack)
    yield from read_single(storage, sorted(entries.single))


def read_single(storage: Storage, units: list[str]) -> Iterator[FileSet]:
    """Yield the units' own entries, with a few in memory at a time.

    Raises:
        FatalError: an entry is damaged.
    """
    for start in range(0, len(units), _READ_AT_ONCE):
        for record in _read_single(storage, units[start : start + _READ_AT_ONCE]):
            yield FileSet((record,), record.files)


def remove(storage: Storage, files: FileSet) -> None:
    """Delete the entry of a pack or a single unit."""
    storage.delete(entry_name(files))


def _read_single(storage: Storage, units: list[str]) -> Iterator[UnitRecord]:
    names = [_entry(unit) for unit in units]
    for name, data in zip(names, _read(storage, names), strict=True):
        yield _parsed(storage, name, data).units[0]


def _read_packs(storage: Storage, names: list[str]) -> list[PackRecord]:
    return [
        _record_of(_parsed(storage, name, data))
        for name, data in zip(names, _read(storage, names), strict=True)
    ]


def misplaced(storage: Storage, name: str) -> FileSet | None:
    """Read a valid entry that is stored under another entry's name; None if it is not one."""
    try:
        files = _decoded(name, _read(storage, [name])[0])
    except (ValidationError, DamagedError):
        return None
    return None if files.problem() or entry_name(files) == name else files


def _decoded(name: str, data: bytes) -> FileSet:
    if _is_entry(name, _PACK_PREFIX):
        return FileSet.of_pack(PackRecord.model_validate_json(data))
    record = UnitRecord.model_validate_json(data)
    return FileSet((record,), record.files)


def _parsed(storage: Storage, name: str, data: bytes) -> FileSet:
    """Parse an entry and check it against its path.

    Raises:
        DamagedError: the entry is damaged or belongs under another name.
    """
    try:
        files = _decoded(name, data)
        problem = files.problem()
        if entry_name(files) != name:
            problem = f"it is the entry of {files.name}"
    except ValidationError:
        problem = "it cannot be read"
    if problem:
        what = "its units" if _is_entry(name, _PACK_PREFIX) else "its unit"
        raise DamagedError(
            f"{storage.shown(name)} is damaged ({problem}); delete it to have {what} run again, or "
            f"see `restyle repair {storage.uri}`"
        )
    return files


def _record_of(files: FileSet) -> PackRecord:
    return PackRecord(
        pack=files.pack, generation=files.generation, units=files.units, files=files.files
    )


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
