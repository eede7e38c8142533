"""What the site adds to the pages of ``docs/``: a reference page for each sub-package, and links.

Links to files outside ``docs/`` work where the repository is browsed. The site has no such files,
so that they become plain text there, once it is known that the file exists.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "pipeline", "kernels", "jobs")

_OUTSIDE = re.compile(r"\[([^]]+)\]\((\.\./[^)#]+)(#[^)]*)?\)")
_MODULE = "\n::: {name}\n    options:\n      show_submodules: {whole}\n"

log = logging.getLogger("mkdocs.hooks.links")


def pages() -> dict[str, str]:
    """The pages of the reference, by the package that each is about."""
    found = {"restyle": _page("restyle", [])}
    for room in ROOMS:
        folder, name = (ROOT / "restyle" / room).resolve(), f"restyle.{room}"
        modules = sorted({path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"})
        found[name] = _page(name, modules)
        for below in sorted(path.parent.name for path in folder.glob("*/__init__.py")):
            found[f"{name}.{below}"] = _page(f"{name}.{below}", None)
    return found


def _page(package: str, modules: list[str] | None) -> str:
    """A package with some of its modules, or with all that is below it."""
    content = f"# {package}\n" + _MODULE.format(name=package, whole=str(modules is None).lower())
    for module in modules or ():
        content += _MODULE.format(name=f"{package}.{module}", whole="false")
    return content


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference behind the pages that mkdocs.yml names."""
    reference = [{name: f"reference/{name}.md"} for name in pages()]
    config.nav = [*(config.nav or []), {"Reference": reference}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    for name, content in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Make text of links that leave ``docs/``."""

    def text_of(link: re.Match[str]) -> str:
        if not (ROOT / "docs" / page.file.src_uri).parent.joinpath(link[2]).exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, link[2])
        return link[1]

    return _OUTSIDE.sub(text_of, markdown)
