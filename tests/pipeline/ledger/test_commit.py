"""The files of a unit whose commit fails are taken back, unless an entry vouches for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from restyle.core.errors import FatalError, TransientError
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.commit import EncodedUnit, write_unit
from restyle.pipeline.storage.filesystem import Storage, open_storage

UNIT = EncodedUnit("000000-ab", 1, 1, {}, {"latents": (b"x", 1), "steps": (b"y", 1)}, {}, {})
FULL = FatalError("no space is left on the device")
ENTRY = "_ledger/unit-000000-ab.json"


def fails_before(storage: Storage, name: str, data: bytes) -> None:
    raise FULL


def fails_after(storage: Storage, name: str, data: bytes) -> None:
    open_storage(storage.uri).write(name, data)
    raise FULL


@pytest.mark.parametrize(
    ("fails", "asked", "stays"),
    [
        (fails_before, None, False),
        # As when the folder cannot be synced any more.
        (fails_after, None, True),
        (fails_before, TransientError("the store does not answer"), True),
        (fails_before, FatalError("access denied"), True),
    ],
)
def test_what_is_taken_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[[Storage, str, bytes], None],
    asked: Exception | None,
    stays: bool,
) -> None:
    local = type(open_storage(str(tmp_path)))
    write, read = local.write, local.read

    def written(self: Storage, name: str, data: bytes) -> None:
        if name == ENTRY and self is storage:
            return fails(self, name, data)
        return write(self, name, data)

    def answered(self: Storage, name: str) -> bytes:
        if name == ENTRY and asked is not None:
            raise asked
        return read(self, name)

    storage = open_storage(str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(local, "write", written)
        patch.setattr(local, "read", answered)
        with pytest.raises(FatalError, match="no space is left"):
            write_unit(storage, UNIT, "f" * 64)
    left = {*storage.sizes("latents"), *storage.sizes("steps")}
    assert len(left) == (2 if stays else 0)


def test_files_of_another_driver_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, storage = open_storage(str(tmp_path)), open_storage(str(tmp_path))
    record = write_unit(other, UNIT, "f" * 64)
    local = type(storage)
    write = local.write

    def full(self: Storage, name: str, data: bytes) -> None:
        if name.startswith("steps"):
            raise FULL
        write(self, name, data)

    monkeypatch.setattr(local, "write", full)
    with pytest.raises(FatalError, match="no space is left"):
        write_unit(storage, UNIT, "f" * 64)
    assert {*storage.sizes("latents"), *storage.sizes("steps")} == {f.name for f in record.files}
    assert ledger.find(storage, UNIT.unit) == record
