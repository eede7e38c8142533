"""Compaction changes no row, wherever it is killed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.accounting import compaction
from restyle.pipeline.accounting.compaction import choose, compact, settle
from restyle.pipeline.accounting.operation import bound_to
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.entries import FileSet, UnitRecord, WrittenFile
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.report.report import write_report
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import driver_lock
from tests.pipeline.in_process import in_process

DATASETS = ("latents", "steps", "reconstructions", "rejects")
KEY = ["image_id", "revision", "face", "step"]


class PowerCut(BaseException):
    """Ends a process as nothing else does: no handler of the project's catches it."""


def invert(folder: Path, model: Path) -> None:
    settings = InversionSettings(
        model=str(model), steps=2, align=False, metrics=("l2",), reconstructions="all", dtype="fp32"
    )
    request = Request(str(folder / "images"), str(folder / "out"), settings, device="cpu")
    invert_images(request, engine=in_process)


def add_images(folder: Path, first: int, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(first, first + count):
        Image.new("RGB", (40, 40), (7 * index, 0, 0)).save(folder / f"{index:02d}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Three units: 20 images and a reject."""
    folder = tmp_path_factory.mktemp("compaction")
    add_images(folder / "images", 0, 20)
    (folder / "images" / "x.jpg").write_bytes(b"text")
    invert(folder, tiny_model)
    return folder


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A pack of two units, and two units that came later."""
    folder = tmp_path_factory.mktemp("grown")
    add_images(folder / "images", 0, 10)
    invert(folder, tiny_model)
    compact(str(folder / "out"))
    add_images(folder / "images", 10, 10)
    invert(folder, tiny_model)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    # The manifest knows the images by their paths, which therefore stay where they are.
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path


@pytest.fixture
def out(folder: Path) -> Path:
    return folder / "out"


def rows(out: Path, dataset: str) -> pd.DataFrame:
    """What a reader of the folder sees, in the order of the keys."""
    table = pd.read_parquet(out / dataset)
    return table.sort_values([name for name in KEY if name in table]).reset_index(drop=True)


def counted(out: Path) -> tuple[int, int, int]:
    """Inputs, faces and rejects as the ledger has them."""
    sets = list(ledger.read_file_sets(open_storage(str(out))))
    records = [record for each in sets for record in each.units]
    assert max(Counter(record.unit for record in records).values()) == 1
    rejects = sum(sum(record.rejects.values()) for record in records)
    return sum(record.images for record in records), sum(each.faces for each in sets), rejects


def test_every_row_is_there_unchanged_in_one_file_per_dataset(out: Path) -> None:
    before = {dataset: rows(out, dataset) for dataset in DATASETS}
    status = read_status(str(out)).summary
    done = compact(str(out))
    assert (done.packs, done.units, done.files, done.written, done.left) == (1, 3, 10, 4, 4)
    for dataset in DATASETS:
        (file,) = (out / dataset).iterdir()
        assert file.name.startswith("part-pack-")
        pd.testing.assert_frame_equal(rows(out, dataset), before[dataset])
    names = sorted(path.name for path in (out / "_ledger").iterdir())
    assert [name for name in names if name.startswith("unit-")] == []
    assert [name for name in names if name.startswith(("pack-", "compact"))] == names[:1]
    verification = verify(str(out))
    assert verification.problems == []
    assert (verification.units, verification.images, verification.faces, verification.rejects) == (
        3,
        21,
        20,
        1,
    )
    assert read_status(str(out)).summary == status
    write_report(Output.at(str(out)))
    assert (out / "report.html").read_text().count("<figure") > 0


def test_metadata_and_row_groups_fit_readers(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pq.read_schema(next((out / "latents").iterdir()))
    monkeypatch.setattr(compaction, "_PICTURE_ROWS", 8)
    monkeypatch.setattr(compaction, "_BATCH_ROWS", 4)
    compact(str(out))
    (latents,) = (out / "latents").iterdir()
    assert pq.read_schema(latents).equals(before, check_metadata=True)
    (images,) = (out / "reconstructions").iterdir()
    metadata = pq.read_metadata(images)
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sum(sizes) == 20 * 3
    assert max(sizes) == 8


def test_the_second_time_there_is_nothing_to_do(out: Path) -> None:
    compact(str(out))
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    done = compact(str(out))
    assert (done.packs, done.files, done.left) == (0, 0, 4)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == files


def test_new_inputs_join_a_small_pack(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    add_images(tmp_path / "images", 0, 10)
    invert(tmp_path, tiny_model)
    compact(str(out))
    add_images(tmp_path / "images", 10, 10)
    invert(tmp_path, tiny_model)
    assert len(list((out / "latents").iterdir())) == 3
    done = compact(str(out))
    assert (done.packs, done.units) == (1, 4)
    assert len(list((out / "latents").iterdir())) == 1
    assert verify(str(out)).problems == []
    assert len(set(rows(out, "latents").image_id)) == 20
    storage = open_storage(str(out))
    (pack,) = ledger.read_entries(storage).packs
    assert pack.generation == 2
    # Nothing is left to do, and so nothing is run again.
    entry = {path.name for path in (out / "_ledger").glob("pack-*")}
    invert(tmp_path, tiny_model)
    assert {path.name for path in (out / "_ledger").glob("pack-*")} == entry
    assert list((out / "_ledger").glob("unit-*")) == []


def cut_at(operation: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Lose power before the so-manieth change of the storage; counts the changes made."""
    made = 0
    local = type(open_storage("/"))
    for name in ("write", "delete"):
        original = getattr(local, name)

        def change(
            self: Storage, target: str, *data: bytes, _original: Callable[..., None] = original
        ) -> None:
            nonlocal made
            if "driver-" not in target:
                if made == operation:
                    raise PowerCut
                made += 1
            _original(self, target, *data)

        monkeypatch.setattr(local, name, change)
    return lambda: made


@pytest.mark.parametrize(
    ("start", "operations"),
    [
        # The marker twice, four files and an entry written, ten files and three entries removed.
        ("made", 2 + 4 + 1 + 10 + 3),
        # No rejects, so three files instead of four, of a pack and two units.
        ("grown", 2 + 3 + 1 + 9 + 3),
    ],
)
def test_killed_at_any_moment(
    request: pytest.FixtureRequest, tmp_path: Path, start: str, operations: int
) -> None:
    out: Path = request.getfixturevalue(start) / "out"
    datasets = [dataset for dataset in DATASETS if (out / dataset).exists()]
    before = {dataset: rows(out, dataset) for dataset in datasets}
    truth = counted(out)
    operation = 0
    while True:
        copy = Path(shutil.copytree(out, tmp_path / f"cut-{operation}"))
        with pytest.MonkeyPatch.context() as patch:
            changes = cut_at(operation, patch)
            try:
                compact(str(copy))
                break
            except PowerCut:
                pass
        # Whatever is there, the ledger counts each row once.
        assert changes() == operation
        assert counted(copy) == truth
        problems = verify(str(copy)).problems
        assert all("belongs to no unit" in line or "was stopped" in line for line in problems)
        if operation % 2:
            compact(str(copy))
        else:
            settled(copy)
        assert verify(str(copy)).problems == []
        for dataset in datasets:
            pd.testing.assert_frame_equal(rows(copy, dataset), before[dataset])
        shutil.rmtree(copy)
        operation += 1
    assert operation == operations


def settled(out: Path) -> None:
    output = Output.at(str(out))
    bound = bound_to(output.storage)
    assert bound is not None
    settle(output, *bound)


def test_a_damaged_file_stops_it_before_anything_is_removed(out: Path) -> None:
    victim = sorted((out / "steps").iterdir())[1]
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    files = sorted(path.name for path in out.glob("*/part-0*"))
    with pytest.raises(FatalError, match="missing or damaged"):
        compact(str(out))
    assert sorted(path.name for path in out.glob("*/part-0*")) == files
    settled(out)
    assert list(out.glob("*/part-pack-*")) == []


def test_not_while_a_run_is_at_work(out: Path) -> None:
    with (
        driver_lock(open_storage(str(out)), Listener()),
        pytest.raises(SpecError, match="in use by another run"),
    ):
        compact(str(out))


def test_nothing_to_compact(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no output"):
        compact(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def file_set(number: int, size: int) -> FileSet:
    record = UnitRecord(
        unit=f"{number:06d}-0", fingerprint="f", images=1, faces=1, rejects={}, files=(),
        metrics={}, seconds={},
    )  # fmt: skip
    file = WrittenFile(name=f"latents/{number}", rows=1, size=size, sha256="0")
    return FileSet((record,), (file,))


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([10], []),
        ([10, 10], [[10, 10]]),
        ([50, 40, 10, 5], [[50, 40, 10]]),
        ([50, 40, 10, 5, 5], [[50, 40, 10], [5, 5]]),
        ([51, 10, 90, 10], [[10, 10]]),
        ([30] * 7, [[30] * 3, [30] * 3]),
    ],
)
def test_what_is_merged(sizes: list[int], groups: list[list[int]]) -> None:
    sets = [file_set(number, size) for number, size in enumerate(sizes)]
    chosen = list(choose(sets, 100))
    assert [[each.files[0].size for each in group] for group in chosen] == groups
