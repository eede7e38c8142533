"""Lists of URIs in text files and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from restyle.pipeline.sources.formats.source_format import Entries, Index, Piece, SourceFormat

if TYPE_CHECKING:
    from restyle.pipeline.sources.ranged_file import RangedFile


class _TextList(SourceFormat):
    name = "list"
    extensions = ("csv", "tsv", "txt", "list")
    names_inputs = True
    only_as_input = True
    readers = ("restyle.pipeline.sources.formats.text_lists",)
    position = 3

    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        from restyle.pipeline.sources.formats.text_lists import text_entries

        extension = asked.file.uri.rpartition(b".")[2].lower().decode("ascii", "replace")
        column, shown = asked.options.column, asked.file.source
        yield from map(Entries, text_entries(file, extension, column, shown))


FORMAT = _TextList()
