"""``restyle runs``: what was run on an output, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.inspection import Out

if TYPE_CHECKING:
    from pipeline.run_record import RunRecord

_HEADINGS = ("started", "state", "new", "changed", "vanished", "done", "rejects", "seconds")


def runs(
    out: Out,
    last: Annotated[int, typer.Option(min=1, help="How many, counted from the newest.")] = 20,
) -> None:
    """List the runs of an output, scheduled ones included, the newest last."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pipeline.run_record import read_runs
    from pipeline.status import settings_of
    from pipeline.storage import open_storage

    storage = open_storage(out)
    settings_of(storage)
    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="right" if heading in _COUNTS else "left")
    remarks = []
    for record in read_runs(storage, last):
        if isinstance(record, str):
            remarks.append(f"{record} cannot be understood; was it written by another version?")
            continue
        table.add_row(*map(escape, _row(record)))
        if record.error:
            remarks.append(f"{record.timings.started}: {record.error}")
    console.print(table)
    for remark in remarks:
        console.print(escape(remark))


_COUNTS = frozenset(_HEADINGS[2:])


def _row(record: RunRecord) -> tuple[str, ...]:
    timings = record.timings
    counts = (record.new, record.changed, record.vanished, timings.images, timings.rejects)
    # Written twice, at the beginning and at the end: what never ended was killed, or goes on.
    state = "not ended" if record.state == "running" else record.state
    seconds = "" if record.state == "running" else f"{timings.seconds:.1f}"
    return timings.started, state, *map(str, counts), seconds
