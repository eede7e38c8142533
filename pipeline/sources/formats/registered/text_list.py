"""Lists of URIs in text files, tables and JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from restyle.pipeline.sources.formats.source_format import Index, Piece, SourceFormat

if TYPE_CHECKING:
    from restyle.pipeline.sources.ranged_file import RangedFile


class _TextList(SourceFormat):
    name = "list"
    extensions = ("csv", "tsv", "tab", "txt", "list", "jsonl", "ndjson")
    names_inputs = True
    only_as_input = True
    readers = ("restyle.pipeline.sources.formats.text_lists",)
    position = 3

    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        from restyle.pipeline.sources.formats.text_lists import text_entries

        extension = asked.file.uri.rpartition(b".")[2].lower().decode("ascii", "replace")
        yield from text_entries(file, extension, asked.options.column, asked.file.source)


FORMAT = _TextList()
