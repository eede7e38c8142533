"""Recognise files that this project wrote, which are not inputs even if they lie among inputs.

An output is recognised by its contents, wherever it lies: by its ledger, which every version and
operation writes first; a training run by its log and checkpoint; an exported page, and on a disk
the folder of an export, by its marker. For pictures written as single files, a hidden folder beside
them, :data:`MARKS`, holds an empty file of the same name.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from restyle.pipeline.storage.marks import EXPORT, PAGE

REPORT_FILE = "report.html"
"""Name of the report page of a run."""

MARKS = ".restyle-output"
"""Folder of empty marker files, each named like a file next to it that this project wrote."""

_LEDGER = "_ledger"
_ENTRY = re.compile(r"plan-\d+\.parquet|(?:[\w-]+-)?settings\.json|(?:unit|run)-[\w.-]+\.json")
_FILES = frozenset({_LEDGER, "_set-aside", "_index", "run.json", REPORT_FILE, "strip.png"})
_DATASETS = frozenset({"latents", "steps", "reconstructions", "rejects", "generators", "edits"})
# Datasets of operations from other packages use the same file names.
_PART = re.compile(r"part-[\w.-]+\.parquet")

_PICTURES = "pictures"
"""Folder of an exported page."""
_LOG, _CHECKPOINT, _SAMPLES = "losses.jsonl", "checkpoint.pt", "samples"

_FOLDERS = 4096

OUTPUT_NAMES = _FILES | _DATASETS
"""Names that this project writes at the top level of an output."""


@dataclass
class Written:
    """What this project wrote into a folder.

    Attributes:
        is_output: whether the folder holds an operation's datasets, ledger and report.
        names: names of further files, and of folders whose whole contents were written.
    """

    is_output: bool = False
    names: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        """Return whether this project wrote anything into the folder."""
        return self.is_output or bool(self.names)

    def holds(self, below: str) -> bool:
        """Return whether this project wrote a file or folder, given its relative path.

        In dataset folders only Parquet files count: a user's own folder may have the same name.
        """
        first, _, rest = below.partition("/")
        is_row_file = rest.endswith(".parquet") and (first in _DATASETS or _PART.fullmatch(rest))
        return first in self.names or (self.is_output and bool(first in _FILES or is_row_file))


class OwnFiles(ABC):
    """Predicate: which paths or URIs this project wrote.

    Args:
        out: output of the job; None if it cannot overlap with the input.
        base: the listed folder; folders above it are not examined.
        passed: callback that receives each folder, other than the job's output, in which files of
            an output were found.
    """

    def __init__(
        self, out: str | None, base: str, passed: Callable[[str], None] = lambda _folder: None
    ) -> None:
        self._out = None if out is None else out.rstrip("/")
        self._base = base.rstrip("/")
        self._passed = passed

    def __call__(self, path: str) -> bool:
        """Return whether to skip a path or URI."""
        return self._is_of_job(path) or any(
            self._is_of(folder, path) for folder in self.marked(path)
        )

    @abstractmethod
    def marked(self, path: str) -> Iterable[str]:
        """Return the folders between the listed folder and a path that contain written files."""

    @abstractmethod
    def written(self, folder: str) -> Written:
        """Return what this project wrote into a folder."""

    def is_out(self, folder: str) -> bool:
        """Return whether a folder is the output of the job."""
        return folder == self._out

    def _is_of_job(self, path: str) -> bool:
        out = self._out
        if out is None or (path != out and not path.startswith(out + "/")):
            return False
        # An output inside the input is skipped entirely. If the inputs lie inside the output's
        # folder, only files that this project wrote there are skipped.
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
    """Recognises local files by the contents of their folders; paths lack ``file://``."""

    def __init__(
        self, out: str | None, base: str, passed: Callable[[str], None] = lambda _folder: None
    ) -> None:
        super().__init__(out, base, passed)
        # Device and inode recognise the output also when it is reached through links.
        self._real_out = None if out is None else _identity(out)
        self._marked: dict[str, tuple[str, ...]] = {}
        self._looked_up = functools.lru_cache(_FOLDERS)(_looked_up)

    def marked(self, path: str) -> Iterable[str]:
        """Return as :meth:`OwnFiles.marked`."""
        if not path.startswith(self._base + "/"):
            return ()
        if len(self._marked) > _FOLDERS:
            self._marked.clear()
        folder, unknown = path.rpartition("/")[0], list[str]()
        # Stop at the first known folder, because paths may be thousands of folders deep.
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
        """Return whether a folder is the output of the job."""
        if folder == self._out:
            return True
        return self._real_out is not None and _identity(folder or "/") == self._real_out

    def written(self, folder: str) -> Written:
        """Return what this project wrote into a folder."""
        return self._looked_up(folder)


class RemoteFiles(OwnFiles):
    """Recognises files of a store from its listing, in which a ledger precedes the datasets.

    Args:
        exists: function that returns whether a file exists; called for folders named like that of
            an exported page.
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
        """Record a listed file; call it for hidden files, too."""
        folder, _, name = uri.rpartition("/")
        above, _, within = folder.rpartition("/")
        if within == _LEDGER and _ENTRY.fullmatch(name):
            self._of(above).is_output = True
        elif within == MARKS:
            self._of(above).names.add(name)
        elif within == _PICTURES and above not in self._asked:
            self._asked.add(above)
            if self._exists(f"{above}/{PAGE}"):
                self._of(above).names.add(_PICTURES)
        elif name == _CHECKPOINT:
            self._logs.add(folder)
        elif name == _LOG and folder in self._logs:
            self._of(folder).names.add(_SAMPLES)

    def marked(self, path: str) -> Iterable[str]:
        """Yield as :meth:`OwnFiles.marked`, for the part listed so far."""
        at = path.find("/", len(self._base))
        while self._found and at >= 0:
            if path[:at] in self._found:
                yield path[:at]
            at = path.find("/", at + 1)

    def written(self, folder: str) -> Written:
        """Return what this project wrote into a folder, for the part listed so far."""
        return self._found.get(folder) or Written()

    def _of(self, folder: str) -> Written:
        return self._found.setdefault(folder, Written())


def _looked_up(folder: str) -> Written:
    written = Written(any(map(_ENTRY.fullmatch, _names(f"{folder}/{_LEDGER}"))))
    written.names.update(_names(f"{folder}/{MARKS}"))
    if _is_file(f"{folder}/{PAGE}"):
        written.names.add(_PICTURES)
    if _is_file(f"{folder}/{EXPORT}"):
        written.names.update(_names(folder))
    if _is_file(f"{folder}/{_CHECKPOINT}") and _is_file(f"{folder}/{_LOG}"):
        written.names.add(_SAMPLES)
    return written


def _identity(folder: str) -> tuple[int, int] | None:
    """Return device and inode; None if the folder is missing or cannot be opened by its path."""
    try:
        status = os.stat(folder)  # noqa: PTH116 (once for each folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path raises for names that are too long)


def _names(folder: str) -> Iterator[str]:
    # The folder may be missing or unreadable.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
