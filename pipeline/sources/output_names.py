"""What this project wrote, and so is no input although it lies where inputs do.

An output is known by what is in it, wherever it lies and however it is reached: its ledger, which
every version and operation writes first; a training run by its log and checkpoint; an exported page
by its marker. For pictures that are written as single files, a hidden folder beside them,
:data:`MARKS`, holds an empty file of the same name.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

REPORT_FILE = "report.html"
"""The page that a run ends with."""

MARKS = ".restyle-output"
"""Folder of empty files, each named like a file beside the folder that this project wrote."""

_LEDGER = "_ledger"
_ENTRY = re.compile(r"plan-\d+\.parquet|(?:[\w-]+-)?settings\.json|(?:unit|run)-[\w.-]+\.json")
_FILES = frozenset({_LEDGER, "_set-aside", "run.json", REPORT_FILE, "strip.png"})
_DATASETS = frozenset({"latents", "steps", "reconstructions", "rejects", "edits"})
# As operations of other packages call the files of their datasets, too.
_PART = re.compile(r"part-[\w.-]+\.parquet")

_EXPORT, _EXPORTED = "restyle-view.json", "pictures"
_LOG, _CHECKPOINT, _SAMPLES = "losses.jsonl", "checkpoint.pt", "samples"

_FOLDERS = 4096

OUTPUT_NAMES = _FILES | _DATASETS
"""What this project writes at the top of an output."""


@dataclass
class Written:
    """What this project wrote into a folder.

    Attributes:
        is_output: the rows of an operation, its ledger and its report.
        names: further files, and folders with all that is in them.
    """

    is_output: bool = False
    names: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return self.is_output or bool(self.names)

    def holds(self, below: str) -> bool:
        """Whether a file or folder, by its path below, is some of it.

        In the folders of datasets only Parquet files are: a user's own may bear such a name.
        """
        first, _, rest = below.partition("/")
        is_row_file = rest.endswith(".parquet") and (first in _DATASETS or _PART.fullmatch(rest))
        return first in self.names or (self.is_output and bool(first in _FILES or is_row_file))


class OwnFiles(ABC):
    """Tells which paths or URIs this project wrote.

    Args:
        out: the output of the job; None when it cannot overlap with the input.
        base: the folder that is listed; nothing is known of folders above.
        passed: is told of each folder, other than the job's output, where something was found.
    """

    def __init__(
        self, out: str | None, base: str, passed: Callable[[str], None] = lambda _folder: None
    ) -> None:
        self._out = None if out is None else out.rstrip("/")
        self._base = base.rstrip("/")
        self._passed = passed

    def __call__(self, path: str) -> bool:
        """Whether a path or URI is to be passed over."""
        return self._is_of_job(path) or any(
            self._is_of(folder, path) for folder in self.marked(path)
        )

    @abstractmethod
    def marked(self, path: str) -> Iterable[str]:
        """The folders, from the listed one down to a path, where something was written."""

    @abstractmethod
    def written(self, folder: str) -> Written:
        """What was written into a folder."""

    def is_out(self, folder: str) -> bool:
        """Whether a folder is the output of the job."""
        return folder == self._out

    def _is_of_job(self, path: str) -> bool:
        out = self._out
        if out is None or (path != out and not path.startswith(out + "/")):
            return False
        # An output inside the input is skipped whole. When the inputs live inside the output's
        # folder, only what this project wrote there is.
        is_inside = out.startswith(self._base + "/")
        return is_inside or Written(is_output=True).holds(path[len(out) + 1 :])

    def _is_of(self, folder: str, path: str) -> bool:
        is_out = self.is_out(folder)
        if is_out and folder != self._base:
            return True
        written = self.written(folder)
        if is_out:
            written = Written(is_output=True, names=written.names)
        is_own = written.holds(path[len(folder) + 1 :])
        if is_own and not is_out:
            self._passed(folder)
        return is_own


class LocalFiles(OwnFiles):
    """Those of this machine: folders are looked into. Arguments are paths without ``file://``."""

    def __init__(
        self, out: str | None, base: str, passed: Callable[[str], None] = lambda _folder: None
    ) -> None:
        super().__init__(out, base, passed)
        # However links lead there.
        self._real_out = None if out is None else _identity(out)
        self._marked: dict[str, tuple[str, ...]] = {}
        self._looked_up = functools.lru_cache(_FOLDERS)(_looked_up)

    def marked(self, path: str) -> Iterable[str]:
        """As :meth:`OwnFiles.marked`."""
        if not path.startswith(self._base + "/"):
            return ()
        if len(self._marked) > _FOLDERS:
            self._marked.clear()
        folder, unknown = path.rpartition("/")[0], list[str]()
        # Up to one that is known, because paths may be thousands of folders deep.
        while folder not in self._marked and len(folder) >= len(self._base):
            unknown.append(folder)
            folder = folder.rpartition("/")[0] if folder else "-"
        found = self._marked.get(folder, ())
        for each in reversed(unknown):
            if self.is_out(each) or self.written(each):
                found = (*found, each)
            self._marked[each] = found
        return found

    def is_out(self, folder: str) -> bool:
        """Whether a folder is the output of the job."""
        if folder == self._out:
            return True
        return self._real_out is not None and _identity(folder or "/") == self._real_out

    def written(self, folder: str) -> Written:
        """What was written into a folder."""
        return self._looked_up(folder)


class RemoteFiles(OwnFiles):
    """Those of a store, as its listing shows them: a ledger stands before the datasets in it.

    Args:
        exists: whether there is a file; asked for folders that are called as in an exported page.
    """

    def __init__(
        self,
        out: str | None,
        base: str,
        passed: Callable[[str], None],
        exists: Callable[[str], bool],
    ) -> None:
        super().__init__(out, base, passed)
        self._exists = exists
        self._found: dict[str, Written] = {}
        self._logs: set[str] = set()
        self._asked: set[str] = set()

    def see(self, uri: str) -> None:
        """Take note of a listed file, hidden ones included."""
        folder, _, name = uri.rpartition("/")
        above, _, within = folder.rpartition("/")
        if within == _LEDGER and _ENTRY.fullmatch(name):
            self._of(above).is_output = True
        elif within == MARKS:
            self._of(above).names.add(name)
        elif within == _EXPORTED and above not in self._asked:
            self._asked.add(above)
            if self._exists(f"{above}/{_EXPORT}"):
                self._of(above).names.add(_EXPORTED)
        elif name == _CHECKPOINT:
            self._logs.add(folder)
        elif name == _LOG and folder in self._logs:
            self._of(folder).names.add(_SAMPLES)

    def marked(self, path: str) -> Iterable[str]:
        """As :meth:`OwnFiles.marked`, as far as the listing has come."""
        at = path.find("/", len(self._base))
        while self._found and at >= 0:
            if path[:at] in self._found:
                yield path[:at]
            at = path.find("/", at + 1)

    def written(self, folder: str) -> Written:
        """What was written into a folder, as far as its listing has come."""
        return self._found.get(folder) or Written()

    def _of(self, folder: str) -> Written:
        return self._found.setdefault(folder, Written())


def _looked_up(folder: str) -> Written:
    written = Written(any(map(_ENTRY.fullmatch, _names(f"{folder}/{_LEDGER}"))))
    written.names.update(_names(f"{folder}/{MARKS}"))
    if _is_file(f"{folder}/{_EXPORT}"):
        written.names.add(_EXPORTED)
    if _is_file(f"{folder}/{_CHECKPOINT}") and _is_file(f"{folder}/{_LOG}"):
        written.names.add(_SAMPLES)
    return written


def _identity(folder: str) -> tuple[int, int] | None:
    """Device and inode; None where there is nothing, or nothing that a path can reach."""
    try:
        status = os.stat(folder)  # noqa: PTH116 (once for each folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path raises for names that are too long)


def _names(folder: str) -> Iterator[str]:
    # There may be none, or one that is not to be looked into.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
