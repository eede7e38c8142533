"""Check the first entries of a list: a list whose entries cannot be opened is an error."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from restyle.core.errors import RejectError, SpecError, reason_of
from restyle.core.shown_text import visible
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.addresses import shown_uri

FIRST = 1000
"""Number of entries that are checked."""

_SHARE = 0.5
_FEW = 16
# If half of a list cannot be opened, the probability that no entry of a sample of 16 fails is 1 in
# 65,000.
_SUSPICIOUS = 0.25
_AT_ONCE = 16
_SHOWN = 120

Opens = Callable[[SourceImage], None]
"""Opens an input; raises OSError or RejectError if that fails."""


@dataclass(frozen=True)
class Checks:
    """Checks that planning applies to a listing.

    Attributes:
        is_planned: function that returns whether an input, given its id, is already planned.
        looks_at_lists: whether a list is an error if most of its first entries cannot be opened.
        opens: function that opens remote entries to check them; None to check local entries only.
    """

    is_planned: Callable[[str], bool] = lambda _image_id: False
    looks_at_lists: bool = False
    opens: Opens | None = None

    def opening(self, listing: SourceImage) -> Opening | None:
        """Return the checker for the entries of a list; None if lists are not checked."""
        return Opening(listing.source, self.opens) if self.looks_at_lists else None


class UnopenableListError(SpecError):
    """Most entries of a list cannot be opened, all for the same reason."""


class Opening:
    """Checker of the first entries of a list.

    Args:
        listing: name of the list, for messages.
        opens: function that opens remote inputs, called from several threads; None to skip remote
            inputs.
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
        """Whether the maximum number of entries has been checked."""
        return self._count >= FIRST

    def see(self, image: SourceImage, entry: str, where: str) -> None:
        """Check an entry that is not planned yet.

        Args:
            image: the input that the entry names.
            entry: text of the entry.
            where: position in the list, such as ``line 7``.

        Raises:
            UnopenableListError: as :meth:`judge`, after the last entry of the sample.
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
        """Check that no single reason prevents more than half of the entries from being opened.

        Raises:
            UnopenableListError: one reason does.
        """
        self._ask()
        for reason, count in self._failed.most_common(1):
            if count > _SHARE * self._count:
                raise UnopenableListError(self._message(reason, count))

    def _ask(self) -> None:
        """Open an evenly spaced sample of the remote inputs, or all if many of the sample fail."""
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
            # Replace the input's name, so that messages with the same reason are counted together.
            return reason_of(error).replace(image.source, "it")[:_SHOWN]
        return ""

    def _fail(self, reason: str, image: SourceImage, entry: str, where: str) -> None:
        self._failed[reason] += 1
        self._examples.setdefault(reason, (image.source, entry, where))

    def _message(self, reason: str, count: int) -> str:
        source, entry, where = self._examples[reason]
        entry = shown_uri(entry)
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
    """Return why a local file cannot be opened; empty if it can."""
    try:
        # O_NONBLOCK, because opening a pipe would block until a writer opens it.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
