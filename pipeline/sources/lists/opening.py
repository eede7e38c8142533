"""Whether what a list names can be opened at all: asked at its beginning, not entry by entry."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from restyle.core.errors import RejectError, SpecError
from restyle.core.shown_text import visible
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.source_image import SourceImage

FIRST = 1000
"""Entries that are looked at."""

_SHARE = 0.5
_FEW = 16
# Of so many that were asked, none fails in a list of which half cannot be opened once in 65,000.
_SUSPICIOUS = 0.25
_AT_ONCE = 16
_SHOWN = 120

Opens = Callable[[SourceImage], None]
"""Raises OSError or RejectError where an input cannot be opened."""


@dataclass(frozen=True)
class Checks:
    """What planning asks of a listing.

    Attributes:
        is_planned: whether an input, by its id, is planned already.
        looks_at_lists: a list is an error where most of its first entries cannot be opened.
        opens: by which remote entries are looked at, too.
    """

    is_planned: Callable[[str], bool] = lambda _image_id: False
    looks_at_lists: bool = False
    opens: Opens | None = None

    def opening(self, listing: SourceImage) -> Opening | None:
        """Looks at the entries of a list; None where none are looked at."""
        return Opening(listing.source, self.opens) if self.looks_at_lists else None


class UnopenableListError(SpecError):
    """Most of what a list names cannot be opened, for one reason."""


class Opening:
    """Looks at the first entries of a list.

    Args:
        listing: the list, as it is called.
        opens: opens remote inputs, many at a time; None where no store is asked.
    """

    def __init__(self, listing: str, opens: Opens | None) -> None:
        self._listing = listing
        self._opens = opens
        self._count = 0
        self._failed: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str, str]] = {}
        self._remote: list[tuple[SourceImage, str, str]] = []

    @property
    def is_full(self) -> bool:
        """Whether as many entries were seen as are looked at."""
        return self._count >= FIRST

    def see(self, image: SourceImage, entry: str, where: str) -> None:
        """Look at an entry that is not planned yet.

        Args:
            image: the input that it names.
            entry: as it stands in the list.
            where: ``line 7``.

        Raises:
            UnopenableListError: as :meth:`judge`, with the last entry that is looked at.
        """
        if self.is_full:
            return
        self._count += 1
        if image.fault:
            self._fail(image.fault.partition("|")[2], image, entry, where)
        elif image.uri.startswith(FILE):
            if reason := _local_reason(os.fsdecode(image.uri.removeprefix(FILE))):
                self._fail(reason, image, entry, where)
        elif self._opens is not None:
            self._remote.append((image, entry, where))
        if self.is_full:
            self.judge()

    def judge(self) -> None:
        """See that no reason keeps more than half of the entries from being opened.

        Raises:
            UnopenableListError: one does.
        """
        self._ask()
        for reason, count in self._failed.most_common(1):
            if count > _SHARE * self._count:
                raise UnopenableListError(self._message(reason, count))

    def _ask(self) -> None:
        """Open some of the remote inputs, evenly chosen; all, where several of these fail."""
        asked, self._remote = self._remote, []
        step = max(len(asked) // _FEW, 1)
        few = asked[::step]
        reasons = self._reasons([image for image, *_ in few])
        if sum(map(bool, reasons)) >= _SUSPICIOUS * len(few) and len(few) < len(asked):
            few = asked
            reasons = self._reasons([image for image, *_ in asked])
        for (image, entry, where), reason in zip(few, reasons, strict=True):
            if reason:
                self._fail(reason, image, entry, where)

    def _reasons(self, images: Sequence[SourceImage]) -> list[str]:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(self._reason, images))

    def _reason(self, image: SourceImage) -> str:
        try:
            if self._opens is not None:
                self._opens(image)
        except FileNotFoundError:
            return os.strerror(errno.ENOENT)
        except (OSError, RejectError) as error:
            text = getattr(error, "strerror", None) or " ".join(str(error).split())
            # Messages that name the input differ by that alone.
            return text.replace(image.source, "it")[:_SHOWN] or type(error).__name__
        return ""

    def _fail(self, reason: str, image: SourceImage, entry: str, where: str) -> None:
        self._failed[reason] += 1
        self._examples.setdefault(reason, (image.source, entry, where))

    def _message(self, reason: str, count: int) -> str:
        source, entry, where = self._examples[reason]
        of = f"{count:,} of the first {self._count:,} entries"
        if self._count == 1:
            of = "the only entry"
        taken = "" if source == entry.strip() else f", taken for {visible(source)}"
        return (
            f"{self._listing}: {of} cannot be opened ({reason}); the first is in {where}, "
            f"{visible(entry)[:_SHOWN]!r}{taken}; correct the list, whose relative paths begin at "
            "its folder"
        )


def _local_reason(path: str) -> str:
    """Why a local file cannot be opened; empty when it can."""
    try:
        # A pipe would wait for a writer otherwise.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
