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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](elsewhere.md)", "elsewhere.md"),
        ("[a](index.md#nothing)", "#nothing"),
        ("[a](../mkdocs.yaml)", "../mkdocs.yaml, which does not exist"),
        ("[a](../mkdocs.yml)", None),
    ],
    ids=["page", "anchor", "file", "none"],
)
def test_a_link_to_nothing_is_a_fault(small: Path, text: str, fault: str | None) -> None:
    (small / "docs" / "index.md").write_text(f"# Title\n\n{text}\n")
    (small / "restyle" / "kernels" / "known.py").write_text('"""Text."""\n')
    done = build(small, small / "site")
    assert (done.returncode == 0) == (fault is None), done.stderr
    assert fault is None or fault in done.stderr


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("nothing", "nothing is not found from here"),
        ("restyle.kernels.known.nothing", "restyle.kernels.known.nothing"),
        ("something", None),
        ("restyle.kernels.known.something", None),
        ("_private", None),
    ],
)
def test_a_reference_to_nothing_is_a_fault(small: Path, name: str, fault: str | None) -> None:
    (small / "docs" / "index.md").write_text("# Title\n")
    (small / "restyle" / "kernels" / "known.py").write_text(
        f'"""Text."""\n\n\ndef something() -> int:\n    """As :func:`{name}`."""\n'
    )
    done = build(small, small / "site")
    assert (done.returncode == 0) == (fault is None), done.stderr
    assert fault is None or fault in done.stderr
