"""Planning an input from outside, and what a run makes of planning that does not work out."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from restyle.core.errors import SpecError, TransientError
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.manifest import read_units
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.planning import input_plan
from restyle.pipeline.planning.input_plan import InputPlan, PlanOutcome, plan_only
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.sources import catalog
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.filesystem import open_storage
from restyle.pipeline.storage.lock import driver_lock
from tests.pipeline.in_process import in_process
from tests.pipeline.inversion.test_run import Heard
from tests.pipeline.ledger.test_manifest import numbered

Listing = Callable[..., Iterator[Sequence[SourceImage]]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(12):
        (folder / f"{index:02d}.jpg").write_bytes(b"text")
    return folder


def plan(source: Path, out: Path, **options: object) -> tuple[PlanOutcome, Heard]:
    heard = Heard()
    asked = InputPlan(str(source), str(out), InputOptions(), **options)  # type: ignore[arg-type]
    return plan_only(asked, heard), heard


def names_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_plan_writes_the_manifest_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome, _ = plan(photos, out)
    assert (outcome.planned.new, outcome.images, outcome.units, outcome.pending) == (12, 12, 2, 12)
    assert names_in(out) == ["_ledger/plan-000000.parquet"]
    again, heard = plan(photos, out)
    assert (again.planned.new, again.images, heard.lines) == (0, 12, [])
    assert names_in(out) == ["_ledger/plan-000000.parquet"]


def test_what_changed_and_what_is_gone_is_told(photos: Path, tmp_path: Path) -> None:
    plan(photos, tmp_path / "out")
    (photos / "03.jpg").write_bytes(b"longer text")
    for index in range(4, 11):
        (photos / f"{index:02d}.jpg").unlink()
    outcome, heard = plan(photos, tmp_path / "out")
    assert (outcome.planned.changed, outcome.planned.vanished) == (1, 7)
    assert heard.lines == [
        "1 input has changed since it was planned; it gets new rows with a higher revision",
        f"7 planned inputs are no longer in {photos} ({photos}/04.jpg, {photos}/05.jpg, "
        f"{photos}/06.jpg, {photos}/07.jpg, {photos}/08.jpg, ...); their rows stay",
    ]


def test_a_folder_is_the_same_input_however_it_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(photos, tmp_path / "out")
    (photos / "03.jpg").unlink()
    monkeypatch.chdir(tmp_path)
    outcome, _ = plan(Path("photos/../photos"), tmp_path / "out")
    assert (outcome.planned.new, outcome.planned.vanished) == (0, 1)


def test_a_bad_input_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="does not exist"):
        plan(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def listing(ends_in: BaseException) -> Listing:
    """Seventy units, one more file of the manifest than is full, and then something happens."""

    def listed(*_: object) -> Iterator[Sequence[SourceImage]]:
        for start in range(0, 70 * 256, 1024):
            yield numbered(1024, start)
        raise ends_in

    return listed


def test_a_fault_of_the_input_found_late_takes_the_plan_back(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(photos, tmp_path / "out")
    monkeypatch.setattr(input_plan, "iter_images", listing(SpecError("no such column")))
    with pytest.raises(SpecError, match="no such column"):
        plan(photos, tmp_path / "out")
    assert names_in(tmp_path / "out") == ["_ledger/plan-000000.parquet"]


def test_a_store_that_fails_midway_costs_no_planned_input(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_plan, "iter_images", listing(TransientError("503")))
    with pytest.raises(TransientError):
        plan(photos, tmp_path / "out")
    units = read_units(open_storage(str(tmp_path / "out")))
    assert sum(unit.images for unit in units) == 64 * 256


def test_two_plans_at_once_are_refused(photos: Path, tmp_path: Path) -> None:
    with (
        driver_lock(open_storage(str(tmp_path / "out")), Listener()),
        pytest.raises(SpecError, match="in use by another run"),
    ):
        plan(photos, tmp_path / "out")


def test_planning_that_is_interrupted_says_how_to_go_on(
    photos: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_plan, "iter_images", listing(KeyboardInterrupt()))
    request = request_of(photos, tmp_path / "out", tiny_model)
    with pytest.raises(Interrupted, match="0 of 16384 inputs are done, run the same command"):
        invert_images(request, engine=in_process)
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert (record["state"], record["counts"]["pending_images"]) == ("interrupted", 16384)


def test_a_run_takes_over_what_was_planned(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    plan(photos, tmp_path / "out")
    outcome = invert_images(request_of(photos, tmp_path / "out", tiny_model), engine=in_process)
    assert (outcome.images, outcome.summary.rejected) == (12, 12)
    assert names_in(tmp_path / "out" / "_ledger").count("plan-000000.parquet") == 1


def test_a_list_of_uris_is_planned_without_opening_one(tmp_path: Path) -> None:
    uris = [f"s3://no-such-bucket/{index:05d}.jpg" for index in range(5000)]
    pq.write_table(pa.table({"uri": uris}), tmp_path / "list.parquet")
    outcome, heard = plan(tmp_path / "list.parquet", tmp_path / "out")
    assert (outcome.planned.new, outcome.units) == (5000, -(-5000 // 157))
    assert heard.found[-1] == 5000
    planned_inputs = PlannedInputs.read(Output.at(str(tmp_path / "out")))
    assert len(planned_inputs) == 5000


def request_of(source: Path, out: Path, model: Path) -> Request:
    settings = InversionSettings(model=str(model), steps=1, align=False, metrics=(), dtype="fp32")
    return Request(str(source), str(out), settings, device="cpu")


def test_a_shard_is_opened_again_only_when_it_changed(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, out = tmp_path / "shard.tar", tmp_path / "out"
    make_shard(shard, tmp_path, 3)
    request = request_of(shard, out, tiny_model)
    assert invert_images(request, engine=in_process).summary.faces == 3
    opened: list[object] = []
    real = catalog.ShardProcess.index
    monkeypatch.setattr(
        catalog.ShardProcess, "index", lambda *a, **k: (opened.append(a), real(*a, **k))[1]
    )
    assert invert_images(request, engine=in_process).images == 0
    assert opened == []
    make_shard(shard, tmp_path, 4)
    heard = Heard()
    outcome = invert_images(request, heard, in_process)
    assert len(opened) == 1
    assert (outcome.images, outcome.summary.faces) == (4, 7)
    record = json.loads((out / "run.json").read_bytes())
    assert (record["new"], record["changed"], record["vanished"]) == (1, 3, 0)
    assert verify(str(out)).problems == []


def make_shard(shard: Path, folder: Path, count: int) -> None:
    with tarfile.open(shard, "w") as archive:
        for index in range(count):
            Image.new("RGB", (40, 40), (20 * index, 0, 0)).save(folder / "one.png")
            archive.add(folder / "one.png", f"inside/{index}.png")
