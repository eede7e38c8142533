"""``restyle compact``: merge the small files of an output."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import SaidNotes, say


def compact(
    out: Out,
    target_mb: Annotated[
        int,
        typer.Option(
            min=1, help="Megabytes that the largest file of a pack may have; memory is thrice that."
        ),
    ] = 128,
) -> None:
    """Merge the small files of an output; no row changes.

    While it runs, readers of the folders may see rows twice; verify and report never do.
    """
    from restyle.pipeline.accounting.compaction import compact as merge

    done = merge(out, target_mb * 2**20, SaidNotes())
    if not done.packs:
        say(f"nothing to merge in {plural(done.left, 'file')}")
        return
    say(
        f"{plural(done.files, 'file')} of {plural(done.units, 'unit')} became "
        f"{plural(done.written, 'file')} in {plural(done.packs, 'pack')}; the output has "
        f"{plural(done.left, 'file')} now"
    )
