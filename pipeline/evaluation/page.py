"""``evaluation.html``: table, curve, edits and failures on one page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from restyle.core.metrics.bootstrap import LEVEL, RESAMPLES
from restyle.core.metrics.registry import title_of
from restyle.pipeline.accounting.run_record import read_run
from restyle.pipeline.editing.rows import strength_column
from restyle.pipeline.evaluation import curve
from restyle.pipeline.evaluation.comparison import Row, measure_named
from restyle.pipeline.evaluation.curve import Point
from restyle.pipeline.evaluation.edits import Edited, edit_files
from restyle.pipeline.evaluation.failures import judge, read_failures, strips_of
from restyle.pipeline.evaluation.layout import grids_of
from restyle.pipeline.evaluation.measured import KEY, Measured, keys_of
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import BATCH_ROWS, open_parquet, spread
from restyle.pipeline.pictures.picture_file import write_file
from restyle.pipeline.report.curves import text
from restyle.pipeline.report.html import render_page
from restyle.pipeline.report.report import common_folder, finished, title_of_data
from restyle.pipeline.storage.filesystem import open_storage, shown_uri

FACES = 4
"""Number of faces whose edits are shown."""


def write_page(
    to: str,
    measured: Sequence[Measured],
    edits: Sequence[Edited],
    rows: Sequence[Row],
    points: Sequence[Point],
    notes: Sequence[str],
) -> str:
    """Write the page and return its path or URI.

    Args:
        to: path or URI of the page.
        measured: all methods; the first is what the others are compared with.
        edits: of the methods; empty without edits.
        rows: of the table.
        points: of the curve.
        notes: remarks.

    Raises:
        FatalError: a file of an output is damaged, or the page cannot be written.
    """
    folder, _, name = to.rpartition("/")
    metric = judge(measured)
    failures = [] if metric is None else read_failures(measured, metric)
    lines = list(dict.fromkeys(point.line for point in points))
    sources = [failure.source for each in failures for failure in each]
    run = read_run(measured[-1].snapshot.storage)
    values = {
        "title": title_of_data(run, folder),
        "uri": shown_uri(folder),
        "finished": finished(run),
        "faces": len(measured[0].numbers),
        "methods": [(str(each.contender.method), each.contender.model) for each in measured],
        "facts": _facts(measured),
        "grids": grids_of(rows),
        "drawings": [
            curve.draw(points, name, lines)
            for name in dict.fromkeys(point.metric for point in points)
        ],
        "lines": lines,
        "size": (curve.WIDTH, curve.HEIGHT, curve.LEFT),
        "measure_of": measure_named,
        "described": curve.described,
        "edited": _edited_faces(edits),
        "metric": metric,
        "failures": failures,
        "prefix": common_folder(sources),
        "notes": notes,
        "interval": f"{LEVEL:.0%}",
        "resamples": f"{RESAMPLES:,}",
    }
    write_file(to, render_page("evaluation.html.j2", values, number=text, title_of=title_of))
    return open_storage(folder).shown(name)


def _facts(measured: Sequence[Measured]) -> list[tuple[str, str]]:
    """Where and how the methods ran."""
    runs = [read_run(each.snapshot.storage) for each in measured]
    devices = {f"{run.device}, {run.machine.get('cores', '?')} cores" for run in runs if run}
    settings = measured[0].settings
    return [
        ("Precision", ", ".join(sorted({str(each.settings.dtype) for each in measured}))),
        ("Device", "; ".join(sorted(devices)) or "unknown"),
        ("Alignment", f"found by {settings.searched_by}" if settings.align else "none"),
        ("Version", runs[0].versions.get("restyle-pipeline", "unknown") if runs[0] else "unknown"),
    ]


def _edited_faces(edits: Sequence[Edited]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Pictures of some faces: for each edit the methods, each with a data URI for every face.

    The first of each are the inputs.
    """
    shown: list[tuple[str, list[tuple[str, list[str]]]]] = []
    inputs = _inputs(edits[0].measured) if edits else []
    for change in sorted({change for each in edits for change in each.changes}):
        methods = [
            (f"{each.measured.contender.method}, {each.measured.contender.model}", pictures)
            for each in edits
            if change in each.changes and (pictures := _pictures(each, change))
        ]
        shown.append((edits[0].label(change), [("input", inputs), *methods]))
    return shown


def _inputs(measured: Measured) -> list[str]:
    """The aligned inputs of the shown faces."""
    rows = spread(range(len(measured.numbers)), FACES)
    strips = strips_of(measured, rows)
    return [strip.input.image for row in rows if (strip := strips.get(row)) and strip.input]


def _pictures(edited: Edited, change: float) -> list[str]:
    """The pictures of :data:`FACES` faces, spread evenly over all."""
    wanted = spread(edited.measured.keys, FACES)
    column, strength = strength_column(edited.direction), np.float32(edited.strengths[change])
    found = {}
    for name in edit_files(Output.at(edited.out).sets()):
        with open_parquet(edited.out, name) as parquet:
            for batch in parquet.iter_batches(
                BATCH_ROWS, columns=[*KEY, column, "image"], use_threads=False
            ):
                for row, key in enumerate(keys_of(batch)):
                    if key in wanted and batch[column][row].as_py() == float(strength):
                        data = base64.b64encode(batch["image"][row].as_py()).decode()
                        found[key] = f"data:image/png;base64,{data}"
    return [found[key] for key in wanted if key in found]
