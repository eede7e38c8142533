"""``restyle plan`` and ``restyle retry-rejects`` as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from restyle.jobs.display.progress import ProgressDisplay
from restyle.pipeline.listener import Progress
from tests.command import heavy_imports
from tests.warm_command import restyle


def test_a_plan_is_made_told_and_costs_no_heavy_import(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(3):
        (tmp_path / "photos" / f"{index}.jpg").touch()
    run, imported = heavy_imports("plan", tmp_path / "photos", "--out", tmp_path / "out")
    assert (run.returncode, run.stderr) == (0, "")
    # Arrow loads pandas.
    assert imported <= {"pandas"}
    assert run.stdout.splitlines() == [
        "3 inputs listed: 3 new, 0 changed, 0 vanished since they were planned",
        "3 inputs in 1 unit are planned, 3 are not done",
        f"{tmp_path}/out/_ledger/plan-000000.parquet",
    ]
    # Not an output yet, but more than nothing.
    status = restyle("status", tmp_path / "out")
    assert status.returncode == 2
    assert "is planned (3 inputs) but nothing was run yet" in status.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "/no/such", "--out", "OUT"], "/no/such does not exist"),
        (["plan", "/no/such"], "Missing option '--out'"),
        (["retry-rejects", "OUT"], "holds no output of restyle"),
        (["retry-rejects", "OUT", "--reason", "nonsense"], "no reject has the reason nonsense"),
        (["retry-rejects", "OUT", "--align-actors", "3:1"], "--align-actors"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    out = str(tmp_path / "out")
    result = restyle(*(out if each == "OUT" else each for each in arguments))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (tmp_path / "out").exists()


def test_a_long_listing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("restyle.jobs.display.progress.time.monotonic", lambda: clock[0])
    console = Console(record=True, force_terminal=False, width=80)
    with ProgressDisplay(console) as display:
        for inputs in range(0, 50_000, 10_000):
            clock[0] += 4.0
            display.listed(inputs)
    assert console.export_text().splitlines() == ["20,000 inputs found so far"]


def test_a_terminal_counts_the_listing_and_then_the_images() -> None:
    console = Console(force_terminal=True, width=100, record=True)
    with ProgressDisplay(console) as display:
        display.listed(4096)
        bar = display._bar
        assert bar is not None
        assert [(task.description, task.fields["figures"]) for task in bar.tasks] == [
            ("listing", "4,096 inputs")
        ]
        display.advanced(Progress(0, 10, 0, 0.0))
        assert [task.description for task in bar.tasks] == ["starting workers"]
