"""The wheel, installed into an empty environment beside packages called as our folders are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"kernels": "kernels", "restyle_core": "core", "pipeline": "pipeline", "jobs": "jobs"}
"""The folder of each room, and its name in ``restyle``."""

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

STRANGERS = ("kernels", "pipeline", "jobs", "core")
"""Packages of others with the names of our folders."""

_BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # Setuptools writes its own arguments there.
print(build_meta.build_wheel(folder), build_meta.build_sdist(folder))
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command as somebody who has no checkout; what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, built from a copy of what they are made of."""
    folder = tmp_path_factory.mktemp("built")
    checkout = folder / "checkout"
    for name in ("restyle", *ROOMS):
        shutil.copytree(
            ROOT / name,
            checkout / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    names = run(sys.executable, "-c", _BUILD, folder, cwd=checkout).split()
    wheel, source = folder / names[-2], folder / names[-1]
    assert (wheel.suffix, source.suffixes[-2:]) == (".whl", [".tar", ".gz"])
    return wheel, source


@pytest.fixture(scope="module")
def python(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that has the wheel and sees what it depends on."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    for name in STRANGERS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(f"OWNER = 'somebody else, {name}'\n")
    # Not site directories of their own, so that no .pth file in them leads to the checkout.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", built[0], cwd=environment)
    return python


def expected_files() -> set[str]:
    """What an installation needs: modules, stubs and data of every room, by their names there."""
    found = {f"restyle/{path.name}" for path in (ROOT / "restyle").iterdir() if path.is_file()}
    for folder, name in ROOMS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"restyle/{name}/{path.relative_to(ROOT / folder)}")
    return found


def test_the_wheel_has_every_file_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected_files()


def test_the_source_distribution_has_every_file(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= expected_files() | {"pyproject.toml", "README.md", "LICENSE"}
    assert not any(name.startswith("tests") for name in names)


def test_installing_adds_one_name(python: Path, tmp_path: Path) -> None:
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    assert {path.name for path in site.iterdir() if path.is_dir()} - {"__pycache__"} == {
        "restyle",
        f"restyle_pipeline-{VERSION}.dist-info",
        *STRANGERS,
    }
    code = f"""
import importlib, json
owners = {{name: importlib.import_module(name).OWNER for name in {STRANGERS}}}
import restyle, restyle.kernels, restyle.core, restyle.pipeline, restyle.jobs
print(json.dumps([owners, restyle.__file__, restyle.pipeline.__file__]))
"""
    owners, file, pipeline = json.loads(run(python, "-W", "error", "-c", code, cwd=tmp_path))
    assert owners == {name: f"somebody else, {name}" for name in STRANGERS}
    assert Path(file).is_relative_to(site)
    assert Path(pipeline).is_relative_to(site / "restyle")


@pytest.mark.parametrize("command", [["-m", "restyle"], ["restyle"]], ids=["module", "script"])
def test_the_command_runs(python: Path, tmp_path: Path, command: list[str]) -> None:
    program = [python, *command] if command[0] == "-m" else [python.with_name(command[0])]
    assert run(*program, "--version", cwd=tmp_path) == f"{VERSION}\n"


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_photograph_is_inverted_outside_the_checkout(
    python: Path, tmp_path: Path, photos: Path, executor: str
) -> None:
    shutil.copy(photos / "smile.jpg", tmp_path)
    restyle = python.with_name("restyle")
    options = ("--out", "out", "--model", "faces64", "--executor", executor)
    run(restyle, "invert", "smile.jpg", *options, cwd=tmp_path)
    rows = pq.read_table(tmp_path / "out" / "latents", columns=["source"])
    assert [Path(name).name for name in rows["source"].to_pylist()] == ["smile.jpg"]
    assert (tmp_path / "out" / "report.html").is_file()


OTHERS = ("torch", "numpy", "pandas", "pyarrow", "PIL", "pydantic", "duckdb", "scipy")
"""Packages whose own types are not looked at, which would take a minute."""

SCRIPT = """
import restyle

model = restyle.load_model("faces64")
reveal_type(model)
reveal_type(restyle.align_faces)
reveal_type(restyle.edit)
rows, w = restyle.read_latents("OUT")
restyle.Workers(addres="auto")
restyle.no_such_name
"""


def test_a_type_checker_sees_the_types(python: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n"
        + "".join(
            f"[mypy-{name}.*]\nfollow_imports = skip\nfollow_imports_for_stubs = true\n"
            for name in (
                "torch",
                "numpy",
                "pandas",
                "pyarrow",
                "PIL",
                "pydantic",
                "duckdb",
                "scipy",
            )
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = {
        int(line.split(":")[1]): line for line in done.stdout.splitlines() if "script.py:" in line
    }
    assert '"restyle.core.inference.model.Model"' in lines[5], done.stdout
    assert "restyle.core.faces.alignment.Face" in lines[6]
    assert "EditRequest" in lines[7]
    assert 'Unexpected keyword argument "addres"' in lines[9]
    assert 'Module has no attribute "no_such_name"' in lines[10]
    assert lines.keys() == {5, 6, 7, 9, 10}
