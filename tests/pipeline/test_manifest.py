from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.manifest import MAX_UNIT, count_changed, plan, read_manifest, unit_size, write_plan
from pipeline.sources import SourceImage, image_id
from pipeline.storage import open_storage
from restyle_core.errors import FatalError


def images(*names: str, version: str = "1") -> list[SourceImage]:
    uris = [f"file:///photos/{name}".encode() for name in names]
    return [SourceImage(image_id(uri), uri.decode()[7:], uri, 10, version) for uri in uris]


def numbered(count: int) -> list[SourceImage]:
    return images(*(f"{index:07d}" for index in range(count)))


@pytest.mark.parametrize(
    ("count", "size"), [(1, 8), (30, 8), (256, 8), (320, 10), (1000, 32), (8192, 256), (10**6, 256)]
)
def test_small_jobs_have_small_units(count: int, size: int) -> None:
    assert unit_size(count) == size


@pytest.mark.parametrize("count", [1, 8, 9, 100, 10_000])
def test_every_input_is_in_exactly_one_unit_of_bounded_size(count: int) -> None:
    units = plan([], numbered(count))
    assert [image for unit in units for image in unit.images] == numbered(count)
    assert all(1 <= len(unit.images) <= MAX_UNIT for unit in units)
    assert len({unit.name for unit in units}) == len(units)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    assert read_manifest(storage) == []
    odd = SourceImage(image_id(b"file:///caf\xe9"), "/caf\\xe9", b"file:///caf\xe9", -1, "")
    units = plan([], [*numbered(20), odd])
    assert write_plan(storage, units) == "_ledger/plan-000000.parquet"
    assert read_manifest(storage) == units


def test_only_new_inputs_are_planned_and_old_units_stay(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    first = plan([], numbered(20))
    write_plan(storage, first)
    assert plan(read_manifest(storage), numbered(20)) == []
    second = plan(read_manifest(storage), numbered(25))
    assert [image for unit in second for image in unit.images] == numbered(25)[20:]
    write_plan(storage, second)
    assert read_manifest(storage) == [*first, *second]
    assert [unit.name[:6] for unit in read_manifest(storage)] == [
        f"{index:06d}" for index in range(len(first) + len(second))
    ]


def test_planning_is_deterministic() -> None:
    assert plan([], numbered(100)) == plan([], numbered(100))
    assert plan([], numbered(8))[0].name != plan([], numbered(7))[0].name


def test_changed_inputs_are_counted_and_vanished_ones_are_not() -> None:
    units = plan([], images("a", "b", "c"))
    assert count_changed(units, images("a", "b", "c", "new")) == 0
    assert count_changed(units, [*images("a"), *images("b", version="2")]) == 1


def test_a_damaged_plan_is_an_error_in_one_line(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    name = write_plan(storage, plan([], numbered(3)))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-20])
    with pytest.raises(FatalError, match=r"plan-000000.parquet is damaged") as caught:
        read_manifest(storage)
    assert "\n" not in str(caught.value)
