"""README, citation, changelog and hooks say what is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from restyle.jobs.cli import app

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PAGES = sorted(
    path
    for folder in (".", "docs", "kernels", "restyle_core", "recipes", "samples", "examples")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in _LINK.findall(text) if "://" not in link and link[0] != "#"]
    missing = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert not missing


def test_the_notebook_part_of_the_readme_runs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    part = readme.partition("## In a notebook")[2]
    code = re.search(r"```python\n(.*?)```", part, re.DOTALL)[1]
    shapes = re.findall(r"^(result\.\S+)  # \[([^]]+)\]", code, re.MULTILINE)
    assert [name for name, _ in shapes] == [
        "result.latents",
        "result.reconstructions",
        'result.metrics["lpips"]',
    ]
    for name, shape in shapes:
        code += f"assert list({name}.shape) == [{shape}], {name}.shape\n"
    code = code.replace("result.latents  #", "n_styles = model.n_styles  #", 1)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_documentation_has_every_command() -> None:
    text = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    groups = [group.name for group in app.registered_groups]
    names = [each.name or each.callback.__name__ for each in app.registered_commands] + groups
    assert len(names) > 20
    said = re.findall(r"`[^`\n]+`", text) + re.findall(r"```sh.*?```", text, re.DOTALL)
    words = set(re.findall(r"[\w-]+", " ".join(said)))
    assert [name for name in names if name not in words] == []


def test_the_citation_has_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", VERSION]
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_hooks_are_what_make_lint_runs() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"] for repo in settings["repos"] for hook in repo["hooks"]]
    recipe = re.search(
        r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    lines = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert hooks == lines
