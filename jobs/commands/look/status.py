"""``restyle status``: show how far an output is and whether somebody works on it."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import AsJson, Written
from restyle.jobs.display.terminal import console, emit, emit_json, say

if TYPE_CHECKING:
    from restyle.pipeline.accounting.status import Status


def status(
    out: Written,
    as_json: AsJson = False,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="Show it again so often, until no run works on OUT; with --json a line each time.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the progress of an output, and whether a run works on it or has died."""
    from restyle.pipeline.accounting.status import read_status

    found = read_status(out)
    if watch is None:
        _show(out, found, as_json=as_json)
        return
    terminal = console()
    while True:
        if as_json:
            # Not over several lines, so that a program reads one document a line as it comes.
            emit(json.dumps(_document(found), allow_nan=False))
        else:
            if terminal.is_terminal:
                terminal.clear()
            _show(out, found, as_json=False)
        if not found.driver and (found.run is None or found.run.state != "running"):
            return
        time.sleep(watch)
        found = read_status(out)


def _show(out: str, found: Status, *, as_json: bool) -> None:
    from restyle.jobs.display.tables import show_summary
    from restyle.pipeline.accounting.summary import bottleneck, stage_seconds
    from restyle.pipeline.ledger.settings import ResolvedSettings

    if as_json:
        emit_json(_document(found))
        return
    if not isinstance(found.settings, ResolvedSettings):
        _show_other(out, found)
        return
    settings = found.settings
    model = f"{settings.model}, {settings.steps_shown}, {settings.dtype}"
    lines = [("state", _state(found)), ("model", model), *_run_lines(found)]
    spent = found.summary.seconds
    times = (("stages", stage_seconds(spent)), ("bottleneck", bottleneck(spent)))
    lines += [(name, line) for name, line in times if line]
    lines.append(("report", found.report or "none yet"))
    show_summary(console(), found.summary, lines)


def _state(found: Status) -> str:
    if found.damage:
        return f"damaged: {found.damage}"
    if not found.summary.pending_images:
        return "complete"
    if found.run is not None and found.run.state == "running":
        return "incomplete; a run works on it"
    return "incomplete; the same command continues"


def _run_lines(found: Status) -> list[tuple[str, str]]:
    """Return what is to be said about the last run, as names and values."""
    from restyle.jobs.display.progress import duration

    run = found.run
    lines = []
    if run is not None:
        lines.append(("last run", str(run)))
        if run.state == "running" and run.images_per_second and run.seconds_left is not None:
            left = duration(run.seconds_left)
            lines.append(("rate", f"{run.images_per_second:.3g} images/s, about {left} left"))
        if run.error:
            lines.append(("error", run.error))
    if found.driver and (run is None or run.state != "running"):
        lines.append(("in use by", found.driver))
    return lines


def _show_other(out: str, found: Status) -> None:
    """Print the progress of an output of another operation than inversion."""
    from restyle.jobs.display.edit_tables import show_edits
    from restyle.pipeline.editing.settings import EditSettings
    from restyle.pipeline.editing.summary import summarise
    from restyle.pipeline.ledger.output import Output

    counts, settings = found.summary, found.settings
    of = f"{counts.done_images} of {counts.images} accounted for"
    lines = [("state", _state(found)), (found.operation.inputs, of), *_run_lines(found)]
    if not isinstance(settings, EditSettings):
        _say_lines(lines)
        return
    summary = summarise(Output.at(out).records(), settings)
    edits = plural(len(summary.combinations), "edit")
    lines += [("model", settings.model), ("faces", f"{summary.faces}, {edits} each")]
    _say_lines(lines)
    show_edits(console(), settings, summary)


def _say_lines(lines: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"{name.ljust(width)} {value}")


def _document(found: Status) -> dict[str, Any]:
    """Return the status as JSON types."""
    from restyle.pipeline.accounting.summary import bottleneck
    from restyle.pipeline.storage.addresses import shown_uri

    counts = found.summary
    state = "incomplete" if counts.pending_images else "complete"
    return {
        "out": shown_uri(found.out),
        "operation": found.operation.name,
        "state": "damaged" if found.damage else state,
        "damage": found.damage or None,
        "inputs": counts.images,
        "done": counts.done_images,
        "pending": counts.pending_images,
        "faces": counts.faces,
        "rejects": counts.rejects,
        "units": counts.units,
        "pending_units": counts.pending_units,
        "metrics": counts.metrics,
        "worsened": counts.worsened,
        "seconds": counts.seconds,
        "bottleneck": bottleneck(counts.seconds) or None,
        "settings": found.settings.model_dump(mode="json"),
        "run": None if found.run is None else dataclasses.asdict(found.run),
        "in_use_by": found.driver or None,
        "report": found.report,
    }
