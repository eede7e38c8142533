"""``restyle runs``: a line for each run, whatever became of it; what a scheduled run costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from restyle.pipeline.accounting.run_record import archive_run, dated_name, read_runs
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline.accounting.test_run_record import record
from tests.pipeline.in_process import in_process
from tests.warm_command import restyle

HEADINGS = ["started", "state", "new", "changed", "vanished", "done", "rejects", "seconds"]


def table(out: Path, *arguments: object) -> list[dict[str, str]]:
    result = restyle("runs", out, *arguments)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == HEADINGS
    return [dict(zip(HEADINGS, line.split(), strict=True)) for line in lines[1:]]


@pytest.fixture
def job(tmp_path: Path, photos: Path, tiny_model: Path) -> list[object]:
    """What is behind ``restyle invert``; its input is ``tmp_path / "in"``."""
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "smile.jpg", tmp_path / "in" / "a.jpg")
    return [
        tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model,
        "--steps", 1, "--metrics", "none", "--device", "cpu",
    ]  # fmt: skip


def test_scheduled_runs_take_what_is_new_and_are_listed(
    job: list[object], tmp_path: Path, photos: Path, tiny_model: Path
) -> None:
    request = Request(
        source=str(tmp_path / "in"),
        out=str(tmp_path / "out"),
        settings=InversionSettings(model=str(tiny_model), steps=1, metrics=()),
        device="cpu",
    )
    invert_images(request, engine=in_process)
    idle = restyle("invert", *job)
    assert idle.returncode == 0
    assert "nothing to do" in idle.stderr
    shutil.copy(photos / "unusable" / "text.jpg", tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "a.jpg").unlink()
    invert_images(request, engine=in_process)

    rows = table(tmp_path / "out")
    counted = [[row[name] for name in HEADINGS[1:7]] for row in rows]
    assert counted == [
        ["complete", "1", "0", "0", "1", "0"],
        ["complete", "0", "0", "0", "0", "0"],
        ["complete", "1", "0", "1", "1", "1"],
    ]
    records = read_runs(open_storage(str(tmp_path / "out")), 3)
    seconds = [record.timings.seconds for record in records if not isinstance(record, str)]
    assert all(0 < each < 300 for each in seconds)
    assert [row["seconds"] for row in rows] == [f"{each:.1f}" for each in seconds]
    assert [row["started"] for row in rows] == sorted(row["started"] for row in rows)
    assert table(tmp_path / "out", "--last", 1) == rows[-1:]


def test_runs_that_failed_or_never_ended(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    killed = record("20260101T000000Z-00000000")
    INVERSION.write_settings(storage, ResolvedSettings.model_validate(killed.settings))
    archive_run(storage, killed)
    failed = record("20260102T000000Z-00000000", state="failed", error="the disk [is] full")
    archive_run(storage, failed)
    storage.write(dated_name("20260103T000000Z-00000000"), json.dumps({"format": 9}).encode())

    text = restyle("runs", tmp_path).stdout
    assert text.splitlines()[1].split()[1:] == ["died", *"00000", "-"]
    assert f"{failed.timings.started}: the disk [is] full" in text
    assert "20260103T000000Z-00000000.json cannot be understood" in text
