"""Count what listing skips, and describe it in one line per kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from restyle.core.shown_text import visible
from restyle.pipeline.sources.formats.file_names import extension_of
from restyle.pipeline.sources.formats.source_format import format_named
from restyle.pipeline.sources.lists.entries import EntryReader
from restyle.pipeline.sources.lists.opening import UnopenableListError
from restyle.pipeline.storage.addresses import shown_uri

_NAMED = 5
_NO_EXTENSION = "(none)"


class PassedOver:
    """Counter of files, members and entries that are not inputs."""

    def __init__(self) -> None:
        self._empty = 0
        self._comments = 0
        self._respelled = 0
        self._example = ("", "")
        self._lists: list[str] = []
        self._members: Counter[str] = Counter()
        self._archives: list[str] = []
        self._files: Counter[str] = Counter()
        self._outputs: dict[str, None] = {}

    def members(self, archive: str, members: Counter[str]) -> None:
        """Count skipped members of an archive, given by extension."""
        if members:
            self._members += members
            # A message names one archive at most.
            self._archives.append("" if self._archives else archive)

    def file(self, name: str) -> None:
        """Count a skipped file in a folder."""
        self._files[extension_of(name) or _NO_EXTENSION] += 1

    def entries(self, read: EntryReader) -> None:
        """Add the counts of a list after it has been read."""
        self._empty += read.empty
        self._comments += read.comments
        self._example = self._example if self._respelled else read.example
        self._respelled += read.respelled

    def list(self, error: UnopenableListError) -> None:
        """Record a list in a folder whose entries cannot be opened."""
        self._lists.append(str(error))

    def output(self, folder: str) -> None:
        """Record a folder, by path or URI, that contains files of an output."""
        self._outputs[folder] = None

    def notes(self) -> Iterator[str]:
        """Yield one line for each kind of skipped item."""
        if self._outputs:
            first, count = visible(shown_uri(next(iter(self._outputs)))), len(self._outputs)
            where = first if count == 1 else f"{count:,} folders ({first}, ...)"
            yield f"passed over: what restyle wrote in {where}"
        if self._files:
            count = self._files.total()
            what = "file that is no image" if count == 1 else "files that are no images"
            yield f"passed over: {count:,} {what} ({_kinds(self._files)}){self._hint()}"
        if self._members:
            count, archives = self._members.total(), self._archives
            where = archives[0] if len(archives) == 1 else f"{len(archives):,} archives"
            what = "member is no image" if count == 1 else "members are no images"
            yield f"passed over in {where}: {count:,} {what} by name ({_kinds(self._members)})"
        for line in self._lists:
            yield f"passed over: {line}"
        if self._empty:
            what = "entry" if self._empty == 1 else "entries"
            yield f"passed over: {self._empty:,} empty {what} of lists"
        if self._comments:
            what = "comment" if self._comments == 1 else "comments"
            yield f"passed over: {self._comments:,} {what} in lists"
        if self._respelled:
            what = "entry of lists spells" if self._respelled == 1 else "entries of lists spell"
            entry, path = map(visible, self._example)
            yield (
                f"{self._respelled:,} {what} the names of files otherwise than they are, such as "
                f"{entry!r} for {path}"
            )

    def _hint(self) -> str:
        may_list = (format_named(kind.encode()) for kind in self._files)
        if any(kind is not None and kind[0].names_inputs for kind in may_list):
            return "; name a list or table itself to read it"
        return ""


def _kinds(counted: Counter[str]) -> str:
    kinds = [f"{kind} {number:,}" for kind, number in counted.most_common(_NAMED)]
    return ", ".join(kinds) + (", ..." if len(counted) > _NAMED else "")
