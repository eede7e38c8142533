"""A forked command is the command: what it prints, where, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import command, warm_command
from tests.pipeline.fabricated import Made, fabricate


@pytest.mark.parametrize(
    ("words", "code"), [(["frobnicate"], 2), (["directions", "list"], 0), (["verify", "OUT"], 1)]
)
def test_it_ends_as_a_process_of_its_own_does(words: list[str], code: int, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    fabricate(out, Made(faces=2))
    next((out / "latents").iterdir()).unlink()
    words = [word.replace("OUT", str(out)) for word in words]
    forked, started = warm_command.restyle(*words), command.restyle(*words)
    assert forked.returncode == started.returncode == code
    assert (forked.stdout, forked.stderr) == (started.stdout, started.stderr)


def test_each_has_the_environment_of_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "one"))
    assert f" {tmp_path}/one/" in warm_command.restyle("kernels", "status").stdout
    other = {"RESTYLE_CACHE": str(tmp_path / "other")}
    assert f" {tmp_path}/other/" in warm_command.restyle("kernels", "status", env=other).stdout
    monkeypatch.undo()
    assert str(tmp_path) not in warm_command.restyle("kernels", "status").stdout


def test_what_is_read_during_an_import_starts_a_process(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('imported at the start')")
    for _ in range(2):
        shown = warm_command.restyle("frobnicate", env={"PYTHONPATH": str(tmp_path)})
        assert shown.stdout == "imported at the start\n"


def test_it_forks_also_when_the_environment_of_the_tests_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEITHER_LATE_NOR_CODE", "1")
    for _ in range(2):
        warm_command.restyle("frobnicate")
    monkeypatch.setattr(command, "restyle", None)
    assert warm_command.restyle("frobnicate").returncode == 2
