"""Modules among the photographs are files like any other: nothing imports them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

# What a run imports itself, what Python and Ray import at their start, and the project's own.
HOSTILE = [
    "dlib",
    "numpy",
    "PIL",
    "pyarrow",
    "pandas",
    "torch",
    "ray",
    "sitecustomize",
    "usercustomize",
    "site",
    "typer",
    "pydantic",
    "psutil",
    "contextlib",
    "pathlib",
    "json",
    "pickle",
    "re",
    "fnmatch",
    "setproctitle",
    "uvloop",
    "aiohttp",
    "grpc",
    "kernels",
    "pipeline",
    "jobs",
]

WAYS = {
    "console script": [str(Path(sys.executable).with_name("restyle"))],
    "module": [sys.executable, "-m", "restyle"],
    "module of the command": [sys.executable, "-m", "restyle.jobs.cli"],
}


def make_hostile(folder: Path, ran: Path) -> None:
    """Put modules into a folder that write their names into a file when they are run."""
    for name in HOSTILE:
        code = f"open({str(ran)!r}, 'a').write('{name} ')\nraise SystemExit(77)\n"
        (folder / f"{name}.py").write_text(code)
    (folder / "PIL.py").unlink()
    (folder / "PIL").mkdir()
    (folder / "PIL" / "__init__.py").write_text(f"open({str(ran)!r}, 'a').write('PIL ')\n")


@pytest.mark.parametrize(
    ("way", "executor"),
    [("console script", "ray"), ("module", "ray"), ("module of the command", "local")],
)
def test_nothing_among_the_photographs_is_run(
    way: str, executor: str, tmp_path: Path, photos: Path, tiny_model: Path
) -> None:
    folder, ran = tmp_path / "photographs", tmp_path / "ran"
    folder.mkdir()
    make_hostile(folder, ran)
    shutil.copy(photos / "two friends.jpg", folder)
    shutil.copytree(tiny_model, tmp_path / "model")
    # All of it relative to a directory in which the workers are not.
    arguments = ["invert", ".", "--out", "../out", "--model", "../model", "--faces", "all"]
    arguments += ["--executor", executor]
    done = subprocess.run(
        [*WAYS[way], *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not ran.exists(), ran.read_text()
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "out" / "latents")) == 2


@pytest.mark.parametrize("command", ["status out", "directions list", "invert . --out out"])
def test_a_directory_that_is_gone_is_told_in_a_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    program = WAYS["console script"][0]
    # The shell removes the directory that it stands in.
    done = subprocess.run(
        ["bash", "-c", f"rmdir ../gone; exec {shlex.quote(program)} {command}"],
        cwd=tmp_path / "gone", check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the current directory does not exist any more; ")
