"""Choosing faces against numpy on the same table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restyle.pipeline import read_latents
from restyle.pipeline.results.faces import FaceTable, Range, Selection, read_faces
from restyle.pipeline.results.snapshot import read_snapshot
from tests.pipeline.fabricated import HOSTILE, Made, fabricate, redo

MADE = Made(faces=60, rejects=3, unit=16, names=HOSTILE)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "out"
    fabricate(folder, MADE)
    return folder


@pytest.fixture(scope="module")
def table(out: Path) -> FaceTable:
    return read_faces(read_snapshot(str(out)))


def test_sorting_and_limits(out: Path, table: FaceTable) -> None:
    rows, _ = read_latents(out)
    lpips = rows.lpips.to_numpy()
    low = float(np.median(lpips))
    for is_falling in (False, True):
        found = table.select(
            Selection(sort="lpips", is_falling=is_falling, ranges=[Range("lpips", low=low)])
        )
        values = lpips[found]
        assert len(found) == 30
        assert (np.diff(values) >= 0).all() != is_falling
        assert (values >= low).all()
    assert table.select(Selection(is_falling=True)).tolist() == list(range(60))[::-1]
    assert len(table.select(Selection(ranges=[Range("psnr", low=0)]))) == 0


def test_names(table: FaceTable) -> None:
    assert table.select(Selection(name="<SCRIPT>")).tolist() == [0]
    assert table.select(Selection(name="00004")).tolist() == [*range(40, 50)]
    # Text, not a pattern.
    assert len(table.select(Selection(name=".*"))) == 0
    by_name = table.select(Selection(sort="source"))
    names = table.rows["source"].to_pylist()
    assert [names[number] for number in by_name] == sorted(names, key=str.encode)


def test_places_lead_to_the_rows(out: Path, table: FaceTable) -> None:
    rows, _ = read_latents(out)
    for number in (0, 15, 16, 59):
        place = table.place(number)
        assert place.image_id == rows.image_id[number]
        assert place.row == number % 16
        assert table.values(number)["l2"] == pytest.approx(rows.l2[number])
    assert table.ends()[0] < table.ends()[1]


def test_partners_in_another_run(tmp_path: Path, table: FaceTable) -> None:
    fabricate(tmp_path, Made(faces=20, names=HOSTILE, seed=1))
    other = read_faces(read_snapshot(str(tmp_path)))
    assert table.partners(other).tolist() == [*range(20), *[-1] * 40]
    assert other.partners(table).tolist() == [*range(20)]


def test_missing_values_come_last_either_way(table: FaceTable) -> None:
    by = table.metrics["l2"].copy()
    by[[3, 7]] = np.nan
    for is_falling in (False, True):
        assert table.select(Selection(is_falling=is_falling), by)[-2:].tolist() == [3, 7]


def test_older_revisions_and_no_rows(tmp_path: Path) -> None:
    made = Made(faces=6)
    storage = fabricate(tmp_path / "a", made)
    redo(storage, made, 2, 2, rejected=False)
    redo(storage, made, 3, 2, rejected=True)
    found = read_faces(read_snapshot(str(tmp_path / "a")))
    assert sorted(found.rows["revision"].to_pylist()) == [1, 1, 1, 1, 2]
    fabricate(tmp_path / "b", Made(faces=0))
    empty = read_faces(read_snapshot(str(tmp_path / "b")))
    assert (len(empty), empty.ends(), empty.select(Selection(name="x")).tolist()) == (0, [], [])
    assert empty.partners(found).tolist() == []
