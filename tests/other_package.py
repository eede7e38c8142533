"""A package from elsewhere, as pip installs one: a module and what it registers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path, module: str, source: str, entry_points: Mapping[str, Mapping[str, str]]
) -> Path:
    """Put a package into a folder that stands on ``sys.path``.

    Args:
        site: the folder.
        module: name of its only module, and of the package.
        source: of the module.
        entry_points: values by name, by group.
    """
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    about = site / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return site
