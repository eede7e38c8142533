"""docs/environment.md has the variables that the sources read and set, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernels", "restyle_core", "pipeline", "jobs", "restyle")
PAGE = ROOT / "docs" / "environment.md"

# Names that are passed through tables and loops are seen by their form.
_NAME = re.compile(r"(RESTYLE|RAY|OMP|GOMP|MALLOC|MKL|CUDA|CUDNN|XDG|AWS)_\w*[A-Za-z]|PYTHON[A-Z]+")
_OURS = re.compile(r"`(RAY_\w+|PYTHON\w+)`")
_IN_C = re.compile(r'getenv\("(\w+)"\)')


def variables(source: str) -> set[str]:
    """Variables that a Python file names: by their form, or as a key of ``os.environ``."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    keys = [
        key.value if isinstance(key, ast.Constant) else constants.get(getattr(key, "id", ""))
        for node in ast.walk(tree)
        for key in keys_of_environment(node)
    ]
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {key for key in keys if isinstance(key, str)} | {
        text for text in texts if _NAME.fullmatch(text)
    }


def keys_of_environment(node: ast.AST) -> Iterator[ast.expr]:
    """The keys with which a node asks ``os.environ`` or ``os.getenv``."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        yield node.slice
    if isinstance(node, ast.Call) and node.args:
        asked = ast.unparse(node.func)
        if asked == "os.getenv" or asked.startswith("os.environ."):
            yield node.args[0]


def in_sources() -> set[str]:
    found: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.suffix == ".py":
                found |= variables(path.read_text(encoding="utf-8"))
            elif path.suffix in {".cpp", ".cu", ".h", ".cuh"}:
                found |= set(_IN_C.findall(path.read_text(encoding="utf-8")))
    return found


def on_page() -> set[str]:
    """Variables of the page, without those that only libraries read."""
    text = PAGE.read_text(encoding="utf-8").partition("## Read by libraries")[0]
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) | set(_OURS.findall(text))


def test_the_page_has_what_the_sources_name() -> None:
    found = in_sources()
    assert found >= {"RESTYLE_CACHE", "RESTYLE_KERNELS", "CXX", "RAY_worker_niceness"}
    assert sorted(found - on_page()) == []


def test_the_page_has_nothing_else() -> None:
    assert sorted(on_page() - in_sources()) == []


@pytest.mark.parametrize(
    "source",
    [
        'import os\nos.environ.get("FOUND")',
        'import os\nos.environ["FOUND"] = "1"',
        'import os\nNAME = "FOUND"\nos.getenv(NAME)',
        'import os\nNAME = "FOUND"\ndef late():\n    os.environ.setdefault(NAME, "1")',
    ],
)
def test_the_finder_sees_a_variable(source: str) -> None:
    assert variables(source) == {"FOUND"}


def test_the_finder_sees_a_table_of_variables() -> None:
    assert variables('X = {"RAY_some_thing": "1", "text of RAY_other": "2"}') == {"RAY_some_thing"}
