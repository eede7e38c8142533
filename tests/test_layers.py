"""Imports go downward only, between the rooms and between the sub-packages inside a room.

``ROOMS`` declares both orders; docs/architecture.md describes them. A file belongs to the entry
with the longest matching name. A new file at the top of a room, or a new sub-package, needs one.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Room:
    """A top-level folder.

    Attributes:
        package: its import name.
        may_import: the other rooms it may know. Nothing may know ``tests`` or ``recipes``.
        layers: its files and sub-packages, lowest first: each may import those before it.
            Files without an entry of their own belong to their folder's. A room without layers
            is one.
    """

    package: str
    may_import: str = ""
    layers: str = ""


ROOMS = {
    "kernels": Room("restyle.kernels"),
    "restyle_core": Room(
        "restyle.core",
        may_import="kernels",
        layers="""
        errors shown_text stand_ins files stage_clock registry domains devices imaging networks
        checkpoints faces.mmod faces.hog faces metrics inference editing bench
        training training.generators training.encoders
        __init__""",
    ),
    "pipeline": Room(
        "restyle.pipeline",
        may_import="kernels restyle_core",
        layers="""
        listener storage isolation
        sources sources.landmarks sources.formats sources.lists sources.reader sources.contents
        sources.catalog sources.given_landmarks sources.__init__ sources.photographs
        decoding ledger forgetting.tombstone forgetting.derived
        accounting planning results results.forms similarity exporting forgetting monitoring
        execution execution.ray
        execution.placement execution.executor execution.run report inversion estimation editing
        pictures evaluation viewer
        __init__""",
    ),
    "jobs": Room(
        "restyle.jobs",
        may_import="kernels restyle_core pipeline",
        layers="home spec display commands.look commands cli program __init__",
    ),
    "recipes": Room("recipes", may_import="kernels restyle_core"),
}

BASE = {"restyle.former_names"}
"""Below every room. The rest of ``restyle`` itself is above them, and none may import it."""


MOST_MODULES = 14
"""In one folder of the rooms below."""
COUNTED = ("pipeline", "restyle_core", "jobs")

KNOWS_RAY = {
    f"pipeline/execution/ray/{name}.py"
    for name in ("graph", "cluster", "environment", "job_server", "measures", "messages", "results")
}

# Answer in well under a second, so that the command line feels like one.
LIGHT_MODULES = ["restyle", "restyle.jobs.cli", "restyle.pipeline.report.report", "restyle.core"]
HEAVY_MODULES = {"torch", "ray", "dlib", "torchmetrics", "scipy"}


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import of a file, those in functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


@functools.cache
def imported_names(source: str) -> list[tuple[int, str]]:
    """As :func:`imported_modules`, with the names that are taken from each module."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def room_of(name: str) -> str:
    """The room of a module, by its full name; the first part of names from elsewhere."""
    if name in BASE:
        return name
    for room, declared in ROOMS.items():
        if name == declared.package or name.startswith(f"{declared.package}."):
            return room
    return name.partition(".")[0]


def files_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@functools.cache
def file_of(name: str) -> Path | None:
    """The file of a module of a room, or of the module that a dotted name is taken from."""
    room = room_of(name)
    if room not in ROOMS:
        return None
    parts = name.removeprefix(ROOMS[room].package).strip(".").split(".")
    for taken in (parts, parts[:-1]):
        path = ROOT.joinpath(room, *filter(None, taken))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file() and file.is_relative_to(ROOT / room):
                return file
    return None


def layer_of(file: Path) -> tuple[str, int]:
    """The entry of a file, as a path, and its height in its room.

    Raises:
        LookupError: the room declares none.
    """
    room, *parts = file.relative_to(ROOT).with_suffix("").parts
    layers = ROOMS[room].layers.split()
    if not layers:
        return room, 0
    for end in range(len(parts), 0, -1):
        if (entry := ".".join(parts[:end])) in layers:
            return f"{room}/{entry.replace('.', '/')}", layers.index(entry)
    raise LookupError(f"{file.relative_to(ROOT)} stands in no layer of {room}")


def arrows(files: Mapping[Path, str]) -> Iterator[tuple[Path, int, Path]]:
    """Importing file, line and imported file, for every import between files of the rooms."""
    for file, source in files.items():
        for line, name in imported_names(source):
            if (other := file_of(name)) and other != file:
                yield file, line, other


@functools.cache
def sources() -> dict[Path, str]:
    return {file: file.read_text(encoding="utf-8") for room in ROOMS for file in files_of(room)}


def upward_arrows(files: Mapping[Path, str]) -> dict[tuple[str, str], list[str]]:
    """Imports of a higher layer of the same room: the two layers, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    for file, line, other in dict.fromkeys(arrows(files)):
        if file.relative_to(ROOT).parts[0] != other.relative_to(ROOT).parts[0]:
            continue
        (layer, height), (above, other_height) = layer_of(file), layer_of(other)
        if other_height > height:
            place = f"{file.relative_to(ROOT)}:{line} imports {other.relative_to(ROOT)}"
            found.setdefault((layer, above), []).append(place)
    return found


def circle(files: Mapping[Path, str]) -> list[str]:
    """Files that import each other in a circle, the first one twice; empty when there is none."""
    graph: dict[str, set[str]] = {}
    for file, _, other in arrows(files):
        graph.setdefault(str(file.relative_to(ROOT)), set()).add(str(other.relative_to(ROOT)))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_go_downward_only(room: str) -> None:
    forbidden = {*ROOMS, "tests", "restyle"} - {*ROOMS[room].may_import.split(), room}
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files_of(room)
        for line, name in imported_modules(path.read_text(encoding="utf-8"))
        if room_of(name) in forbidden
    ]
    assert not offences, "\n".join(offences)


def test_layers_inside_a_room_import_downward_only() -> None:
    found = upward_arrows(sources())
    offences = [place for places in found.values() for place in places]
    assert not offences, "\n".join(offences)


def test_no_files_import_each_other_in_a_circle() -> None:
    found = circle(sources())
    assert not found, " -> ".join(found)


def test_every_room_was_looked_at() -> None:
    assert all(files_of(room) for room in ROOMS)


def test_every_file_has_a_layer_and_every_layer_a_file() -> None:
    taken = {layer_of(file)[0] for room in ROOMS for file in files_of(room)}
    declared = {
        f"{room}/{entry.replace('.', '/')}"
        for room in ROOMS
        for entry in ROOMS[room].layers.split()
    }
    declared |= {room for room in ROOMS if not ROOMS[room].layers}
    assert taken == declared


@pytest.mark.parametrize("room", COUNTED)
def test_no_folder_is_full(room: str) -> None:
    folders = [ROOT / room, *(path for path in (ROOT / room).rglob("*") if path.is_dir())]
    counts = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) for folder in folders}
    assert max(counts.values()) > 1
    full = {folder: count for folder, count in counts.items() if count > MOST_MODULES}
    assert not full


def test_ray_is_known_to_the_graph_and_its_cluster_only() -> None:
    knows = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in files_of(room)
        for _, name in imported_modules(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] == "ray"
    }
    assert knows <= KNOWS_RAY


def test_imports_are_absolute() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ROOMS
        for path in files_of(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(
    "source",
    [
        "import restyle.pipeline.inversion.run",
        "from restyle.jobs import cli",
        "from restyle import query",
        "import tests",
    ],
)
def test_the_finder_sees_an_upward_import(source: str) -> None:
    nested = f"def late():\n    {source}\n"
    ((line, name),) = imported_modules(nested)
    assert line == 2
    allowed = {*ROOMS["restyle_core"].may_import.split(), "restyle_core"}
    assert room_of(name) in {*ROOMS, "tests", "restyle"} - allowed


@pytest.mark.parametrize(
    ("file", "source", "ends"),
    [
        (
            "restyle_core/networks/generator.py",
            "from restyle.core.inference import model",
            ("restyle_core/networks", "restyle_core/inference"),
        ),
        (
            "pipeline/storage/lock.py",
            "import restyle.pipeline.ledger.entries",
            ("pipeline/storage", "pipeline/ledger"),
        ),
        (
            "restyle_core/faces/alignment.py",
            "from restyle.core import load_model",
            ("restyle_core/faces", "restyle_core/__init__"),
        ),
        (
            "restyle_core/training/loop.py",
            "from restyle.core.training.encoders.trainer import anything",
            ("restyle_core/training", "restyle_core/training/encoders"),
        ),
    ],
)
def test_the_finder_sees_an_arrow_between_layers(
    file: str, source: str, ends: tuple[str, str]
) -> None:
    assert upward_arrows({ROOT / file: f"def late():\n    {source}\n"}).keys() == {ends}


def test_the_finder_sees_a_circle_of_three() -> None:
    real = ["storage/lock", "storage/retries", "storage/errors"]
    files = {
        ROOT / "pipeline" / f"{here}.py": f"import restyle.pipeline.{there.replace('/', '.')}\n"
        for here, there in zip(real, real[1:] + real[:1], strict=True)
    }
    assert set(circle(files)) == {f"pipeline/{name}.py" for name in real}
    assert not circle(dict(list(files.items())[:2]))


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert not HEAVY_MODULES.intersection(loaded)
