"""``restyle index``: make the index that ``restyle similar --approximate`` searches."""

from __future__ import annotations

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import SaidNotes, say


def index(out: Out) -> None:
    """Make the index of an output's latents, in OUT/_index, or bring it up to date.

    144 bytes for each face. It counts until rows are added, redone, merged or removed; the same
    command then takes in what is new, and makes it anew after compact, repair and forget.
    """
    from restyle.pipeline.similarity.index import update_index

    done = update_index(out, SaidNotes())
    added = "" if done.added == done.faces else f", {done.added:,} of them new"
    say(f"{plural(done.faces, 'face')} indexed{added}")
