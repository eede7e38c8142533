"""The commands that are named after a run do something: each is run as it is printed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from restyle.jobs.display.next_commands import after_edits, after_inversion, say_next
from tests.command import ROOT
from tests.pipeline.fabricated import Made, fabricate


def words(commands: list[tuple[list[str], str]]) -> list[str]:
    return [command[0] for command, _ in commands]


def test_they_fit_what_the_run_came_to() -> None:
    assert words(after_inversion("OUT", "faces64", 3, [])) == ["view", "edit"]
    assert words(after_inversion("OUT", "/gone/model", 3, [])) == ["view"]
    assert words(after_inversion("OUT", "toon64", 3, ["no_face"])) == ["view", "query"]
    assert words(after_inversion("OUT", "toon64", 0, ["no_face", "timed_out"])) == ["retry-rejects"]
    assert words(after_edits("EDITS")) == ["view", "query", "verify"]
    (edit,) = [each for each, _ in after_inversion("a/", "faces64", 1, []) if each[0] == "edit"]
    assert edit == ["edit", "a/", "--direction", "smile", "--out", "a-smile"]


def test_a_printed_command_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "it's a $HOME"
    fabricate(out, Made(faces=3, rejects=2))
    commands = after_inversion(str(out), "toon64", 0, ["no_face"])
    say_next(commands)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("next: restyle query ")
    printed = line.removeprefix("next: restyle ").rpartition("  ")[0]
    run = f"{shlex.quote(sys.executable)} -m restyle {printed}"
    done = subprocess.run(["sh", "-c", run], cwd=ROOT, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 2 + 2
