"""Parquet files with a column of images or of URIs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from restyle.pipeline.sources.formats.source_format import (
    Entries,
    Index,
    NoColumn,
    Piece,
    Rows,
    Shard,
    SourceFormat,
)

if TYPE_CHECKING:
    from restyle.pipeline.sources.ranged_file import RangedFile


class _Parquet(SourceFormat):
    name = "parquet"
    extensions = ("parquet",)
    names_inputs = True
    prefix = "row"
    readers = ("restyle.pipeline.sources.formats.parquet_rows",)
    position = 2

    def begins(self, head: bytes) -> bool:
        return head.startswith(b"PAR1")

    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        from restyle.pipeline.sources.formats.parquet_columns import (
            choose_column,
            described,
            open_parquet_file,
            parquet_entries,
            rows_of_groups,
        )

        with open_parquet_file(file) as parquet:
            schema = parquet.schema_arrow
            column = choose_column(parquet, asked.options, asked.file.source, asked.is_named)
            if column is None or (asked.in_list and not column.holds_images):
                yield NoColumn(described(schema))
            elif column.holds_images:
                yield Rows(column.name, rows_of_groups(parquet.metadata, file.size, 8.0))
            else:
                rows_of_groups(parquet.metadata, file.size, 0.25)
                first = 0
                for values in parquet_entries(parquet, column.name):
                    yield Entries(values, range(first, first + len(values)), "row")
                    first += len(values)

    def open(self, file: RangedFile) -> Shard:
        from restyle.pipeline.sources.formats.parquet_rows import ParquetRows

        return ParquetRows(file)

    def part_of(self, place: str) -> tuple[int, int]:
        group, row, _ = place.split(":", 2)
        return int(group), int(row)


FORMAT = _Parquet()
