"""``restyle runs``: list the runs of an output with their times."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restyle.core.errors import SpecError
from restyle.jobs.commands.look.inspection import AsJson, Out
from restyle.jobs.display.terminal import emit_json, say

if TYPE_CHECKING:
    from restyle.pipeline.accounting.run_record import RunRecord
    from restyle.pipeline.accounting.run_state import RunState
    from restyle.pipeline.storage.claim import Claim

_HEADINGS = ("started", "state", "new", "changed", "vanished", "done", "rejects", "seconds")
_WORDS = 2  # columns of words, aligned to the left; numbers follow


def runs(
    out: Out,
    last: Annotated[int, typer.Option(min=1, help="How many, counted from the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the runs of an output, scheduled ones included, newest last."""
    from restyle.pipeline.accounting.run_record import read_runs
    from restyle.pipeline.storage.claim import read_claims
    from restyle.pipeline.storage.filesystem import open_storage

    storage = open_storage(out)
    claims = read_claims(storage)
    records = read_runs(storage, last)
    if not records:
        raise SpecError(f"{storage.uri} holds no record of a run of restyle; correct OUT")
    # Only the newest run can work still, or have left the claim that tells until when it lived.
    states = [_state(record, claims if record is records[-1] else []) for record in records]
    if as_json:
        emit_json([_document(*each) for each in zip(records, states, strict=True)])
        return
    rows: list[tuple[str, ...]] = [_HEADINGS]
    remarks = []
    for record, state in zip(records, states, strict=True):
        if isinstance(record, str) or state is None:
            remarks.append(f"{record} cannot be understood; was it written by another version?")
            continue
        rows.append(_row(record, state))
        if state.error:
            remarks.append(f"{state.started}: {state.error}")
        if state.state in ("running", "died"):
            remarks.append(f"{state.started}: {state}")
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


def _state(record: RunRecord | str, claims: Sequence[Claim]) -> RunState | None:
    from restyle.pipeline.accounting.run_state import run_state

    return None if isinstance(record, str) else run_state(record, claims)


def _row(record: RunRecord, state: RunState) -> tuple[str, ...]:
    timings = record.timings
    counts = (record.new, record.changed, record.vanished, timings.images, timings.rejects)
    seconds = "-" if state.finished is None else f"{timings.seconds:.1f}"
    return timings.started, state.state, *map(str, counts), seconds


def _document(record: RunRecord | str, state: RunState | None) -> dict[str, Any]:
    """Return a run as JSON types."""
    if isinstance(record, str) or state is None:
        return {"record": record, "state": "unknown"}
    return {
        "run": record.run,
        **dataclasses.asdict(state),
        "command": record.asked.command,
        "new": record.new,
        "changed": record.changed,
        "vanished": record.vanished,
        "done": record.timings.images,
        "rejects": record.timings.rejects,
        "seconds": record.timings.seconds if state.finished else None,
    }
