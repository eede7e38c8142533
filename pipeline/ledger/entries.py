"""The ledger: a unit is done exactly when an entry names it.

A unit that was just run has a small entry and small files of its own. Compaction puts many units
into a pack: one entry for all of them, and one file in each dataset. Where a unit stands in several
entries, because compaction was stopped before it removed what it had merged, the pack of the
highest generation counts.
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
    """The entries of a ledger, those of single units unread.

    Attributes:
        single: names of the units that have an entry of their own and stand in no pack.
        packs: that count, by name.
        outdated: names of units that stand in a pack and still have an entry of their own.
        replaced: packs that a later one holds the units of.
    """

    single: set[str]
    packs: tuple[PackRecord, ...]
    outdated: frozenset[str]
    replaced: tuple[PackRecord, ...]

    @property
    def units(self) -> set[str]:
        """Names of all units that are done."""
        return {unit.unit for pack in self.packs for unit in pack.units} | self.single


def read_entries(storage: Storage, names: Sequence[str] | None = None) -> Entries:
    """Look through the ledger.

    Args:
        storage: the output.
        names: the files of the ledger, where they were listed already.

    Raises:
        FatalError: the entry of a pack is damaged, or two packs hold a unit that should be in one.
    """
    names = list(storage.sizes(FOLDER)) if names is None else names
    single = {name[len(_PREFIX) : -len(_SUFFIX)] for name in names if _is_entry(name, _PREFIX)}
    packs = _read_packs(storage, [name for name in names if _is_entry(name, _PACK_PREFIX)])
    winners: dict[str, PackRecord] = {}
    for pack in sorted(packs, key=lambda pack: (pack.generation, pack.pack)):
        winners |= {unit.unit: pack for unit in pack.units}
    counting = {pack.pack for pack in winners.values()}
    for pack in packs:
        # A compaction takes packs as a whole, so that one is replaced as a whole or not at all.
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
    """Declare a unit done. Everything that the record names must have been written before."""
    storage.write(_entry(record.unit), record.model_dump_json(indent=1).encode())


def replace(storage: Storage, files: FileSet) -> None:
    """Commit a pack, or a unit by itself, in place of what its entry said before.

    The files must have been written before.
    """
    if not files.pack:
        commit(storage, files.units[0].model_copy(update={"files": files.files}))
        return
    storage.write(_pack_entry(files.pack), _record_of(files).model_dump_json().encode())


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
    return _parsed(storage, _entry(unit), data).units[0]


def entry_names(storage: Storage) -> list[str]:
    """The files of all entries, relative to the output: packs first."""
    names = list(storage.sizes(FOLDER))
    return [name for prefix in (_PACK_PREFIX, _PREFIX) for name in names if _is_entry(name, prefix)]


def entry_name(files: FileSet) -> str:
    """The file that an entry stands in."""
    return _pack_entry(files.pack) if files.pack else _entry(files.units[0].unit)


def read_entry(storage: Storage, name: str) -> FileSet:
    """One entry, by the name of its file.

    Raises:
        FatalError: it is damaged, says what another entry should, or cannot be read.
    """
    return _parsed(storage, name, _read(storage, [name])[0])


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
    """The entry that stands in another's place, if it is whole; None otherwise."""
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
    """An entry that says what its place in the ledger promises.

    Raises:
        FatalError: it is damaged, or another's was put into its place.
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
