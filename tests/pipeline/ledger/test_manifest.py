"""The manifest's files: written whole, read unit by unit, damage told in one line."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from restyle.core.errors import FatalError
from restyle.pipeline.ledger.manifest import (
    Origin,
    PlanReader,
    Unit,
    UnitRef,
    new_unit,
    plan_names,
    read_plans,
    read_unit,
    read_units,
    write_plan,
)
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import Storage, open_storage


def images(*names: str, version: str = "1") -> list[SourceImage]:
    uris = [f"file:///photos/{name}".encode() for name in names]
    return [SourceImage(image_id(uri), uri.decode()[7:], uri, 10, version) for uri in uris]


def numbered(count: int, start: int = 0) -> list[SourceImage]:
    return images(*(f"{index:07d}" for index in range(start, start + count)))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


ODD = SourceImage(
    image_id(b"odd"),
    "/caf\\xe9.tar::a.jpg",
    b"file:///caf\xe9.tar",
    -1,
    "",
    place="tar:512",
    fault="unsafe_name|it leads out",
    revision=3,
)


def test_units_are_read_as_they_were_written(storage: Storage) -> None:
    assert read_units(storage) == []
    units = [new_unit(0, numbered(20)), new_unit(1, [ODD])]
    refs = write_plan(storage, units, Origin("/photos", "image", "ab"))
    assert refs == [
        UnitRef(units[0].name, 20, "_ledger/plan-000000.parquet", 0),
        UnitRef(units[1].name, 1, "_ledger/plan-000000.parquet", 1),
    ]
    assert read_units(storage) == refs
    assert [read_unit(storage, ref) for ref in refs] == units
    (file,) = read_plans(storage)
    assert file.origin == Origin("/photos", "image", "ab")


def test_a_unit_is_one_row_group_with_its_name(storage: Storage, tmp_path: Path) -> None:
    units = [new_unit(0, numbered(5)), new_unit(1, numbered(3, 5))]
    write_plan(storage, units, Origin())
    file = pq.ParquetFile(tmp_path / "_ledger" / "plan-000000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(2)] == [5, 3]
    # Plain pyarrow, so that anybody may join the manifest with the datasets.
    table = file.read_row_group(1)
    assert table.column("unit").to_pylist() == [units[1].name] * 3
    assert table.column("source").to_pylist() == [f"/photos/{i:07d}" for i in range(5, 8)]


def test_names_tell_members_and_revisions_apart() -> None:
    names = {
        new_unit(0, numbered(8)).name,
        new_unit(0, numbered(7)).name,
        new_unit(0, [ODD]).name,
        new_unit(0, [SourceImage(ODD.image_id, ODD.source, ODD.uri, -1, "")]).name,
    }
    assert len(names) == 4
    assert new_unit(0, numbered(8)) == new_unit(0, numbered(8))
    assert all(name.startswith("000000-") for name in names)


def test_the_reader_keeps_a_few_files(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [write_plan(storage, [new_unit(i, numbered(4, 4 * i))], Origin())[0] for i in range(6)]
    asked: list[str] = []
    read = type(storage).read
    monkeypatch.setattr(
        type(storage), "read", lambda self, name: (asked.append(name), read(self, name))[1]
    )
    reader = PlanReader(storage)
    for ref in [*refs[:2], *refs[:2], refs[0]]:
        assert isinstance(reader.read(ref), Unit)
    assert asked == [ref.plan for ref in refs[:2]]
    for ref in refs:
        assert reader.read(ref).images == tuple(numbered(4, 4 * ref.images * refs.index(ref) // 4))
    # The last four are kept, the first has made room.
    reader.read(refs[5])
    assert len(asked) == 6
    reader.read(refs[0])
    assert len(asked) == 7


def test_files_follow_each_other_beyond_six_digits(storage: Storage, tmp_path: Path) -> None:
    first = write_plan(storage, [new_unit(0, numbered(1))], Origin())
    late = tmp_path / "_ledger" / "plan-999999.parquet"
    (tmp_path / first[0].plan).rename(late)
    write_plan(storage, [new_unit(1, numbered(1, 1))], Origin())
    assert plan_names(storage) == [
        "_ledger/plan-999999.parquet",
        "_ledger/plan-1000000.parquet",
    ]


@pytest.mark.parametrize("damage", ["cut", "columns", "flipped", "counts"])
def test_a_damaged_plan_is_an_error_in_one_line(
    storage: Storage, tmp_path: Path, damage: str
) -> None:
    (ref,) = write_plan(storage, [new_unit(0, numbered(300))], Origin())
    path = tmp_path / ref.plan
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-20])
    elif damage == "columns":
        pq.write_table(pq.read_table(path).drop_columns(["fault"]), path)
    elif damage == "counts":
        pq.write_table(pq.read_table(path), path, row_group_size=100)
    else:
        position = pq.ParquetFile(path).metadata.row_group(0).column(3).data_page_offset + 200
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])

    def read() -> None:
        read_units(storage)
        read_unit(storage, ref)

    with pytest.raises(FatalError, match=r"plan-000000.parquet is damaged") as caught:
        read()
    assert "\n" not in str(caught.value)


def test_a_unit_that_its_file_does_not_hold(storage: Storage, tmp_path: Path) -> None:
    (ref,) = write_plan(storage, [new_unit(0, numbered(3))], Origin())
    with pytest.raises(FatalError, match="does not hold unit 000009-x"):
        read_unit(storage, UnitRef("000009-x", 3, ref.plan, 0))
    (tmp_path / ref.plan).unlink()
    with pytest.raises(FatalError, match="is gone"):
        read_unit(storage, ref)
