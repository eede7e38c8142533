"""``restyle query``: SQL over the datasets of an output."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.jobs.commands.look.inspection import Out

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def query(
    out: Out,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help="One question: 'select source, lpips from latents order by lpips limit 9'.",
        ),
    ],
    output_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="A table of the first rows to look at, or all rows as csv or one JSON a line.",
        ),
    ] = Format.TABLE,
) -> None:
    """Ask an output a question in SQL, which can change nothing and reach nothing else.

    The tables are latents, steps, reconstructions and rejects, with the rows that stand now;
    all_latents and so on also have those of older revisions.
    """
    from restyle.pipeline.results.query import query as ask

    show(ask(out, sql), output_format)


def show(answer: pa.RecordBatchReader, output_format: Format) -> None:
    """Print rows in the wanted way; a reader that has seen enough may go, as ``head`` does."""
    from restyle.jobs.display.answers import print_csv, print_json, print_table

    printers = {Format.TABLE: print_table, Format.CSV: print_csv, Format.JSON: print_json}
    try:
        printers[output_format](answer)
        sys.stdout.flush()
    except BrokenPipeError as error:
        # What is still held must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from error
