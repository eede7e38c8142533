"""Imports go downward only: jobs -> pipeline -> restyle_core -> kernels."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "restyle_core": {"kernels"},
    "pipeline": {"restyle_core", "kernels"},
    "jobs": {"pipeline", "restyle_core", "kernels"},
    "recipes": {"restyle_core", "kernels"},
}
"""For each room, the other rooms it may know. Nothing may know ``tests`` or ``recipes``."""

NAMES = {"restyle.core": "restyle_core", "restyle.pipeline": "pipeline"} | {
    f"restyle.{room}": room for room in ("kernels", "jobs")
}
ROOMS = {*MAY_IMPORT, "tests"}
KNOWS_RAY = {
    *(f"pipeline/execution/ray/{name}.py" for name in ("graph", "cluster", "lean_ray")),
    "pipeline/execution/results.py",
}

# Answer in well under a second, so that the command line feels like one.
LIGHT_MODULES = ["restyle.jobs.cli", "restyle.pipeline.report.report", "restyle.core"]
HEAVY_MODULES = {"torch", "ray", "dlib", "torchmetrics", "scipy"}


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import of a file, those in functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


def room_of(name: str) -> str:
    """The room of a module, by its full name; the first part of names from elsewhere."""
    return NAMES.get(".".join(name.split(".")[:2]), name.partition(".")[0])


def files_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_go_downward_only(room: str) -> None:
    forbidden = ROOMS - MAY_IMPORT[room] - {room}
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files_of(room)
        for line, name in imported_modules(path.read_text(encoding="utf-8"))
        if room_of(name) in forbidden
    ]
    assert not offences, "\n".join(offences)


def test_every_room_was_looked_at() -> None:
    assert all(files_of(room) for room in MAY_IMPORT)


def test_ray_is_known_to_the_graph_and_its_cluster_only() -> None:
    knows = {
        str(path.relative_to(ROOT))
        for room in MAY_IMPORT
        for path in files_of(room)
        for _, name in imported_modules(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] == "ray"
    }
    assert knows <= KNOWS_RAY


def test_relative_imports_stay_inside_their_room() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in MAY_IMPORT
        for path in files_of(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level >= len(path.relative_to(ROOT).parts)
    ]
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(
    "source",
    ["import restyle.pipeline.inversion.run", "from restyle.jobs import cli", "import tests"],
)
def test_the_finder_sees_an_upward_import(source: str) -> None:
    nested = f"def late():\n    {source}\n"
    ((line, name),) = imported_modules(nested)
    assert line == 2
    assert room_of(name) in ROOMS - MAY_IMPORT["restyle_core"]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert not HEAVY_MODULES.intersection(loaded)
