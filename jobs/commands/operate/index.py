"""``restyle index``: make the index that ``restyle similar --approximate`` searches."""

from __future__ import annotations

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import say


def index(out: Out) -> None:
    """Make the index of an output's latents, in OUT/_index; 260 bytes for each face.

    It counts until rows are added, redone, merged or removed; make it again then.
    """
    from restyle.pipeline.results.snapshot import read_snapshot
    from restyle.pipeline.similarity.index import build_index

    say(f"{plural(build_index(read_snapshot(out)), 'face')} indexed")
