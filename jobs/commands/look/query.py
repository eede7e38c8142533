"""``restyle query``: query the datasets of an output with SQL."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import emit

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """Output format of an answer."""

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
    to: Annotated[
        str | None,
        typer.Option(
            "--out",
            "--to",
            metavar="FILE",
            help="Write all rows to a file instead: .parquet, .csv, or .json with one row a line.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Query an output with SQL; queries are read-only and have no access to anything else.

    The tables are latents, steps, reconstructions and rejects, with the current rows; all_latents
    and so on also include those of older revisions.
    """
    from restyle.jobs.display.answers import FILES, encoded
    from restyle.pipeline.pictures.picture_file import check_kind, write_file
    from restyle.pipeline.results.query import query as ask

    if to is None:
        show(ask(out, sql), output_format)
    else:
        kind = check_kind(to, FILES)
        write_file(to, encoded(ask(out, sql), kind))
        emit(to)


def show(answer: pa.RecordBatchReader, output_format: Format) -> None:
    """Print rows in the given format; stop silently if the reader (such as ``head``) exits."""
    from restyle.jobs.display.answers import print_csv, print_json, print_table

    printers = {Format.TABLE: print_table, Format.CSV: print_csv, Format.JSON: print_json}
    try:
        printers[output_format](answer)
        sys.stdout.flush()
    except BrokenPipeError as error:
        # Redirect stdout, so that the interpreter does not flush the remaining buffer into the
        # closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from error
