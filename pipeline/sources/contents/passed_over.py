"""What listing leaves out, counted, and told in one line for each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from restyle.core.shown_text import visible
from restyle.pipeline.sources.formats.file_names import extension_of
from restyle.pipeline.sources.formats.source_format import format_named
from restyle.pipeline.storage.addresses import shown_uri

_NAMED = 5
_NO_EXTENSION = "(none)"


class PassedOver:
    """Counts what is no input.

    Attributes:
        empty_entries: of lists.
    """

    def __init__(self) -> None:
        self.empty_entries = 0
        self._members: Counter[str] = Counter()
        self._archives: list[str] = []
        self._files: Counter[str] = Counter()
        self._outputs: dict[str, None] = {}

    def members(self, archive: str, members: Counter[str]) -> None:
        """Members of an archive, by extension."""
        if members:
            self._members += members
            # Only one is ever named.
            self._archives.append("" if self._archives else archive)

    def file(self, name: str) -> None:
        """A file of a folder."""
        self._files[extension_of(name) or _NO_EXTENSION] += 1

    def output(self, folder: str) -> None:
        """A folder, by path or URI, that holds what this project wrote."""
        self._outputs[folder] = None

    def notes(self) -> Iterator[str]:
        """What was passed over, one line for each kind."""
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
        if self.empty_entries:
            what = "entry" if self.empty_entries == 1 else "entries"
            yield f"passed over: {self.empty_entries:,} empty {what} of lists"

    def _hint(self) -> str:
        may_list = (format_named(kind.encode()) for kind in self._files)
        if any(kind is not None and kind[0].names_inputs for kind in may_list):
            return "; name a list or table itself to read it"
        return ""


def _kinds(counted: Counter[str]) -> str:
    kinds = [f"{kind} {number:,}" for kind, number in counted.most_common(_NAMED)]
    return ", ".join(kinds) + (", ..." if len(counted) > _NAMED else "")
