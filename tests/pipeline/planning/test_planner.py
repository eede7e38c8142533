"""What is planned of a listing, against plain sets and dictionaries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.manifest import (
    MAX_UNIT,
    PART_UNITS,
    Origin,
    PlanReader,
    UnitRef,
    read_units,
)
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning import planner as planner_module
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned, Planner, unit_size
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import Storage, open_storage
from tests.pipeline.ledger.test_manifest import images, numbered

PART = PART_UNITS * MAX_UNIT


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


def batched(listing: Sequence[SourceImage], size: int = 4096) -> Iterator[Sequence[SourceImage]]:
    return (listing[start : start + size] for start in range(0, len(listing), size))


def plan(
    storage: Storage,
    listing: Sequence[SourceImage],
    *,
    origin: Origin | None = None,
    limit: int | None = None,
) -> Planned:
    planner = Planner(PlannedInputs.read(Output(storage)), origin or Origin("/photos"), Listener())
    return planner.plan(batched(listing), limit)


def members(name: str, count: int, version: str = "1") -> list[SourceImage]:
    uri = f"file:///{name}.tar".encode()
    return [
        SourceImage(
            image_id(uri + f"::{i}.jpg".encode()),
            f"/{name}.tar::{i}.jpg",
            uri,
            7,
            version,
            place=f"tar:{512 * i}",
        )
        for i in range(count)
    ]


def all_images(storage: Storage) -> list[list[SourceImage]]:
    reader = PlanReader(storage)
    return [list(reader.read(ref).images) for ref in read_units(storage)]


def flat(units: list[list[SourceImage]]) -> list[SourceImage]:
    return [image for unit in units for image in unit]


@pytest.mark.parametrize(
    ("count", "size"), [(1, 8), (30, 8), (256, 8), (320, 10), (1000, 32), (8192, 256), (10**6, 256)]
)
def test_small_jobs_have_small_units(count: int, size: int) -> None:
    assert unit_size(count) == size


@pytest.mark.parametrize("count", [1, 8, 9, 1000, PART - 1, PART, PART + 1, 2 * PART + 300])
def test_every_input_is_in_exactly_one_unit_of_bounded_size(storage: Storage, count: int) -> None:
    planned = plan(storage, numbered(count))
    assert (planned.new, planned.changed, planned.vanished, planned.listed) == (count, 0, 0, count)
    units = all_images(storage)
    assert flat(units) == numbered(count)
    assert all(1 <= len(unit) <= MAX_UNIT for unit in units)
    assert planned.units == read_units(storage)
    names = [ref.name for ref in planned.units]
    assert [name[:6] for name in names] == [f"{index:06d}" for index in range(len(names))]
    assert len(planned.written) == -(-count // PART)
    assert max(_per_file(planned.units).values()) <= PART_UNITS
    if count < PART:
        assert len(units[0]) == min(count, unit_size(count))


def _per_file(units: Sequence[UnitRef]) -> dict[str, int]:
    files = [unit.plan for unit in units]
    return {name: files.count(name) for name in files}


def test_only_new_inputs_are_planned_and_old_units_stay(storage: Storage) -> None:
    first = plan(storage, numbered(20)).units
    again = plan(storage, numbered(20))
    assert (again.new, again.listed, again.written) == (0, 20, [])
    second = plan(storage, numbered(25)).units
    assert read_units(storage) == [*first, *second]
    assert flat(all_images(storage))[20:] == numbered(25)[20:]
    assert second[0].name.startswith(f"{len(first):06d}-")


def test_what_is_listed_twice_is_planned_once(storage: Storage) -> None:
    listing = numbered(10) + numbered(10) + numbered(12)
    planned = plan(storage, listing)
    assert (planned.new, planned.listed) == (12, 12)
    assert flat(all_images(storage)) == numbered(12)
    assert plan(storage, listing).new == 0


def test_changed_inputs_get_a_higher_revision_each_time(storage: Storage) -> None:
    plan(storage, images("a", "b", "c"))
    planned = plan(storage, [*images("a", "c"), *images("b", version="2")])
    assert (planned.new, planned.changed, planned.vanished) == (0, 1, 0)
    other_size = [replace(image, size=11) for image in images("b", version="2")]
    planned = plan(storage, [*images("a", "c"), *other_size])
    assert planned.changed == 1
    revisions = [(image.source, image.revision) for image in flat(all_images(storage))]
    assert revisions == [
        ("/photos/a", 1),
        ("/photos/b", 1),
        ("/photos/c", 1),
        ("/photos/b", 2),
        ("/photos/b", 3),
    ]
    assert plan(storage, [*images("a", "c"), *other_size]).changed == 0


def test_what_is_not_known_does_not_count_as_a_change(storage: Storage) -> None:
    plan(storage, images("a"))
    unknown = [replace(image, size=-1, version="") for image in images("a")]
    assert plan(storage, unknown).changed == 0


def test_vanished_inputs_are_counted_per_input_and_named(storage: Storage) -> None:
    plan(storage, numbered(20))
    plan(storage, images("elsewhere"), origin=Origin("/others"))
    planned = plan(storage, numbered(12))
    assert planned.vanished == 8
    assert planned.gone == [f"/photos/{index:07d}" for index in range(12, 17)]
    assert plan(storage, numbered(12), limit=12).vanished == 0
    assert plan(storage, images("elsewhere"), origin=Origin("/others")).vanished == 0
    assert plan(storage, images("new"), origin=Origin("/others")).gone == ["/photos/elsewhere"]
    assert plan(storage, numbered(20)).vanished == 0


def test_a_limit_takes_the_first_and_a_later_plan_the_rest(storage: Storage) -> None:
    assert plan(storage, numbered(5000), limit=4200).new == 4200
    again = plan(storage, numbered(5000), limit=4200)
    assert (again.new, again.listed) == (0, 4200)
    assert plan(storage, numbered(5000)).new == 800
    assert sorted(flat(all_images(storage)), key=lambda i: i.source) == numbered(5000)


def test_a_unit_never_mixes_containers(storage: Storage) -> None:
    listing = [*numbered(3), *members("a", 20), *members("b", 300), *numbered(4, 3)]
    planned = plan(storage, listing)
    assert planned.new == 327
    units = all_images(storage)
    kinds = [{image.uri if image.place else b"" for image in unit} for unit in units]
    assert all(len(kind) == 1 for kind in kinds)
    assert {image.image_id for image in flat(units)} == {image.image_id for image in listing}


def test_containers_that_are_planned_need_not_be_opened_again(storage: Storage) -> None:
    whole = SourceImage(image_id(b"file:///a.tar"), "/a.tar", b"file:///a.tar", 9, "1", fault="x|y")
    plan(storage, [*members("a", 600), whole, *numbered(5)])
    planned_inputs = PlannedInputs.read(Output(storage))
    assert planned_inputs.holds(b"file:///a.tar", "1")
    assert not planned_inputs.holds(b"file:///a.tar", "2")
    assert not planned_inputs.holds(b"file:///a.tar", "")
    assert not planned_inputs.holds(b"file:///b.tar", "1")
    # Its members count as listed, though the listing does not repeat them.
    planned = Planner(planned_inputs, Origin("/photos"), Listener()).plan(batched(numbered(5)))
    assert (planned.new, planned.vanished, planned.listed) == (0, 0, 606)
    assert plan(storage, numbered(5)).vanished == 601


def test_a_container_that_changed_is_planned_anew(storage: Storage) -> None:
    plan(storage, members("a", 10))
    planned = plan(storage, members("a", 8, version="2"))
    assert (planned.changed, planned.vanished) == (8, 2)
    planned_inputs = PlannedInputs.read(Output(storage))
    assert planned_inputs.holds(b"file:///a.tar", "2")
    assert Planner(planned_inputs, Origin("/photos"), Listener()).plan([]).vanished == 2


def test_a_container_that_a_limit_cut_is_read_again(storage: Storage) -> None:
    listing = [*members("a", 30), *members("b", 30)]
    assert plan(storage, listing, limit=40).new == 40
    planned_inputs = PlannedInputs.read(Output(storage))
    assert planned_inputs.holds(b"file:///a.tar", "1")
    assert not planned_inputs.holds(b"file:///b.tar", "1")
    planner = Planner(planned_inputs, Origin("/photos"), Listener())
    assert planner.plan(batched(members("b", 30))).new == 20
    assert PlannedInputs.read(Output(storage)).holds(b"file:///b.tar", "1")
    assert len(flat(all_images(storage))) == 60


def test_known_containers_count_for_the_limit(storage: Storage) -> None:
    plan(storage, members("a", 30))
    planned_inputs = PlannedInputs.read(Output(storage))
    planner = Planner(planned_inputs, Origin("/photos"), Listener())

    def listing() -> Iterator[Sequence[SourceImage]]:
        assert planned_inputs.holds(b"file:///a.tar", "1")
        yield numbered(20)

    assert planner.plan(listing(), limit=35).new == 5


def test_another_column_of_the_same_input_is_refused(storage: Storage) -> None:
    plan(storage, images("a"), origin=Origin("/t.parquet", "image"))
    with pytest.raises(SpecError, match="was planned with --column image"):
        plan(storage, images("a"), origin=Origin("/t.parquet", "thumb"))
    plan(storage, images("a"), origin=Origin("/other.parquet", "thumb"))


def test_the_first_file_is_announced_once(storage: Storage) -> None:
    told: list[list[UnitRef]] = []
    planner = Planner(
        PlannedInputs.read(Output(storage)),
        Origin("/photos"),
        Listener(),
        before_first=lambda: told.append(read_units(storage)),
    )
    planner.plan(batched(numbered(PART + 10)))
    assert told == [[]]
    told.clear()
    planner = replace(planner, planned_inputs=PlannedInputs.read(Output(storage)))
    planner.plan(batched(numbered(PART + 10)))
    assert told == []


_KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.pipeline.planning.test_planner import *
planner_module.PART_UNITS = 4
storage = open_storage({out!r})
def listing():
    for batch in batched(numbered(3000), 500):
        if len(read_units(storage)) >= 8:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
Planner(PlannedInputs.read(Output(storage)), Origin("/photos"), Listener()).plan(listing())
"""


def test_planning_that_is_killed_goes_on_where_it_was(storage: Storage, tmp_path: Path) -> None:
    """Killed when two files of 1024 inputs each are there."""
    root = str(Path(__file__).resolve().parents[3])
    code = _KILLED.format(root=root, out=str(tmp_path))
    died = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, env=os.environ)
    assert died.returncode == -signal.SIGKILL
    first = read_units(storage)
    assert sum(unit.images for unit in first) == 2048
    planned = plan(storage, numbered(3000))
    assert (planned.new, planned.listed) == (952, 3000)
    assert read_units(storage)[: len(first)] == first
    assert flat(all_images(storage)) == numbered(3000)


def test_memory_grows_by_a_few_hundred_bytes_per_input(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing itself, at about 700 bytes per input, is never held."""
    monkeypatch.setattr(planner_module, "PART_UNITS", 8)
    count = 30_000

    def listing() -> Iterator[list[SourceImage]]:
        for start in range(0, count, 1000):
            yield numbered(1000, start)

    planner = Planner(PlannedInputs.read(Output(storage)), Origin("/photos"), Listener())
    tracemalloc.start()
    planner.plan(listing())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A part of the manifest under way, and what is known of every input.
    assert peak < 6 * 2**20 + 250 * count
