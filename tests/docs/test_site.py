"""The site is built strictly: every link, anchor and reference in pages and docstrings is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import restyle

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernels", "core", "pipeline", "jobs")


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=checkout,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_site_is_built(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "restyle" / "index.html").read_text(encoding="utf-8")
    assert [name for name in restyle.__all__ if f'id="restyle.{name}"' not in page] == []
    for folder in (*(ROOT / "pipeline").glob("*/"), *(ROOT / "restyle_core").glob("*/")):
        if (folder / "__init__.py").is_file():
            room = {"restyle_core": "core"}.get(folder.parent.name, folder.parent.name)
            name = f"restyle.{room}.{folder.name}"
            assert f'id="{name}"' in (tmp_path / "reference" / name / "index.html").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        folder = "" if path.stem == "index" else path.stem
        assert (tmp_path / folder / "index.html").is_file()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one page, one module and the site's own machinery."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(ROOT / "docs" / "site", folder / "docs" / "site")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    before, _, rest = settings.partition("nav:\n")
    (folder / "mkdocs.yml").write_text(
        f"{before}nav: [index.md]\nvalidation:{rest.partition('validation:')[2]}"
    )
    for package in ("restyle", *(f"restyle/{room}" for room in ROOMS)):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text('"""Text."""\n')
    return folder


MODULE = '''"""Text."""


def something() -> int:
    """{}"""
'''


def test_links_and_references_to_something_are_no_fault(small: Path) -> None:
    (small / "docs" / "index.md").write_text("# Title\n\n[a](#title), [b](../mkdocs.yml)\n")
    (small / "restyle" / "kernels" / "known.py").write_text(
        MODULE.format(
            "As :func:`something`, :func:`~restyle.kernels.known.something`, :data:`_private`."
        )
    )
    done = build(small, small / "site")
    assert done.returncode == 0, done.stderr
    page = (small / "site" / "reference" / "restyle.kernels" / "index.html").read_text()
    assert page.count('href="#restyle.kernels.known.something"><code>something</code></a>') == 2
    assert "<code>_private</code>" in page


def test_links_and_references_to_nothing_are_faults(small: Path) -> None:
    (small / "docs" / "index.md").write_text(
        "# Title\n\n[a](elsewhere.md), [b](index.md#nothing), [c](../mkdocs.yaml)\n"
    )
    (small / "restyle" / "kernels" / "known.py").write_text(
        MODULE.format("As :func:`anything`, and :func:`restyle.kernels.known.nobody`.")
    )
    done = build(small, small / "site")
    assert done.returncode != 0
    faults = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    for fault in (
        "'elsewhere.md'",
        "'index.md#nothing'",
        "../mkdocs.yaml, which does not exist",
        "anything is not found from here",
        "'restyle.kernels.known.nobody'",
    ):
        assert sum(fault in line for line in faults) == 1, done.stderr
