"""The page's HTML, style and scripts, for the server and the export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restyle.pipeline.report.change_maps import colour_ramp
from restyle.pipeline.report.html import render_page

SCRIPTS = (
    "view_parts.js",
    "view_data.js",
    "view_gallery.js",
    "view_rejects.js",
    "view_edits.js",
    "view_face.js",
    "view_upload.js",
    "view_live.js",
    "view.js",
)
"""Scripts in loading order. They are not modules, which browsers do not load from files."""

_TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def page(
    runs: Sequence[dict[str, Any]],
    *,
    exported: dict[str, Any] | None = None,
    accepts_uploads: bool = False,
) -> bytes:
    """The HTML in UTF-8.

    Args:
        runs: descriptions by :meth:`restyle.pipeline.viewer.run.ViewedRun.about`.
        exported: numbers of exported faces; None for the server's page.
        accepts_uploads: whether photographs may be dropped on the page.
    """
    values = {
        "runs": runs,
        "exported": exported,
        "accepts_uploads": accepts_uploads,
        "scripts": SCRIPTS,
    }
    return render_page("view.html.j2", values)


def edits_page(values: dict[str, Any]) -> bytes:
    """The HTML of an output of edits in UTF-8.

    Args:
        values: of the template, see :meth:`restyle.pipeline.viewer.edited_run.EditedRun.page`.
    """
    return render_page("view_edited.html.j2", values)


def locked_page() -> bytes:
    """The HTML for who has no token, in UTF-8; it needs nothing else from the server."""
    return render_page("locked.html.j2", {})


def asset(name: str) -> bytes:
    """A file beside the page: ``view.css``, ``edited.css`` or one of :data:`SCRIPTS`.

    Raises:
        KeyError: there is no such file.
    """
    if name == "view.css":
        # In the style sheet, because the page's policy forbids inline styles.
        ramp = f".ramp {{ background: linear-gradient(to right, {', '.join(colour_ramp())}); }}\n"
        parts = [(_TEMPLATES / part).read_bytes() for part in ("base.css", "view.css")]
        return b"".join([*parts, ramp.encode()])
    if name == "edited.css":
        parts = [
            (_TEMPLATES / part).read_bytes() for part in ("base.css", "view.css", "report.css")
        ]
        return b"".join(parts)
    if name not in SCRIPTS:
        raise KeyError(name)
    return (_TEMPLATES / name).read_bytes()
