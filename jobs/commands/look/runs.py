"""``restyle runs``: list the runs of an output with their times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.errors import SpecError
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import say

if TYPE_CHECKING:
    from restyle.pipeline.accounting.run_record import RunRecord

_HEADINGS = ("started", "state", "new", "changed", "vanished", "done", "rejects", "seconds")
_WORDS = 2  # columns of words, aligned to the left; numbers follow


def runs(
    out: Out,
    last: Annotated[int, typer.Option(min=1, help="How many, counted from the newest.")] = 20,
) -> None:
    """List the runs of an output, scheduled ones included, newest last."""
    from restyle.pipeline.accounting.run_record import read_runs
    from restyle.pipeline.storage.filesystem import open_storage

    storage = open_storage(out)
    records = read_runs(storage, last)
    if not records:
        raise SpecError(f"{storage.uri} holds no record of a run of restyle; correct OUT")
    rows: list[tuple[str, ...]] = [_HEADINGS]
    remarks = []
    for record in records:
        if isinstance(record, str):
            remarks.append(f"{record} cannot be understood; was it written by another version?")
            continue
        rows.append(_row(record))
        if record.error:
            remarks.append(f"{record.timings.started}: {record.error}")
    # Not with rich, whose output depends on the terminal's width and would break scripts.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < _WORDS else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
    for remark in remarks:
        say(remark)


def _row(record: RunRecord) -> tuple[str, ...]:
    timings = record.timings
    counts = (record.new, record.changed, record.vanished, timings.images, timings.rejects)
    # A run is recorded when it starts and when it ends: one recorded as running was killed or is
    # still running.
    state = "unfinished" if record.state == "running" else record.state
    seconds = "-" if record.state == "running" else f"{timings.seconds:.1f}"
    return timings.started, state, *map(str, counts), seconds
