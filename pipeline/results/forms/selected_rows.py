"""Random access to selected latents of an output, without reading all of them into memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.pipeline.results.latent_file import IntArray, LatentFile, open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.latents import Pick, Wanted, picks_of
from restyle.pipeline.results.snapshot import Snapshot

_OPEN = 64
"""Files that are open at once; each holds its parsed footer."""


@dataclass(eq=False)
class SelectedRows:
    """Selected rows of ``latents``, whose latents are read when they are asked for.

    Not safe for several threads; each process or thread needs its own copy, which pickling makes.

    Attributes:
        out: the output.
        picks: selected rows by file, in order.
        shape: of a latent; (0, 0) without rows.
        starts: [files + 1] index of each file's first row, and the number of rows.
    """

    out: str
    picks: Sequence[Pick]
    shape: tuple[int, int]
    starts: IntArray
    _files: OrderedDict[int, tuple[ExitStack, LatentFile]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, object]:
        """The state without open files, which belong to one process."""
        return self.__dict__ | {"_files": OrderedDict()}

    @classmethod
    def of(cls, out: str, picks: Sequence[Pick]) -> SelectedRows:
        """Rows that are selected in the files of an output."""
        starts = np.cumsum([0, *(len(pick.rows) for pick in picks)])
        return cls(out, picks, picks[0].shape if picks else (0, 0), starts)

    def __enter__(self) -> SelectedRows:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def table(self) -> pa.Table:
        """The selected columns of all rows, without the latents."""
        tables = [pick.table for pick in self.picks]
        return pa.concat_tables(tables) if tables else pa.table({})

    def read(self, rows: npt.ArrayLike) -> FloatArray:
        """Read latents in any order.

        Args:
            rows: [n] indices; the same may occur several times.

        Returns:
            [n, n_styles, style_dim] float32.

        Raises:
            IndexError: there is no such row.
            FatalError: a file is missing or damaged.
        """
        asked = np.asarray(rows, np.int64).reshape(-1)
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self):
            raise IndexError(f"there are {len(self)} rows")
        distinct, places = np.unique(asked, return_inverse=True)
        found = np.empty((len(distinct), self.shape[0] * self.shape[1]), np.float32)
        edges = np.searchsorted(distinct, self.starts)
        for number in np.flatnonzero(np.diff(edges)).tolist():
            low, high = edges[number], edges[number + 1]
            within = self.picks[number].rows[distinct[low:high] - self.starts[number]]
            self._file(number).read_into(within, found[low:high])
        return found[places].reshape(len(asked), *self.shape)

    def batches(self) -> Iterator[tuple[pa.Table, FloatArray]]:
        """Yield all rows by row group: their other columns, and [n, n_styles, style_dim]."""
        for number, pick in enumerate(self.picks):
            file = self._file(number)
            for group, start, count in file.groups():
                low, high = np.searchsorted(pick.rows, (start, start + count))
                if low < high:
                    target = np.empty((high - low, self.shape[0] * self.shape[1]), np.float32)
                    file.read_group(group, pick.rows[low:high] - start, target)
                    yield pick.table.slice(low, high - low), target.reshape(-1, *self.shape)

    def close(self) -> None:
        """Close the open files; a later read opens them again."""
        while self._files:
            self._files.popitem()[1][0].close()

    def _file(self, number: int) -> LatentFile:
        if number in self._files:
            self._files.move_to_end(number)
            return self._files[number][1]
        if len(self._files) >= _OPEN:
            self._files.popitem(last=False)[1][0].close()
        stack = ExitStack()
        file = stack.enter_context(open_latents(self.out, self.picks[number].name))
        self._files[number] = stack, file
        return file


def selected_rows(
    snapshot: Snapshot, columns: Sequence[str] | None = None, where: str | None = None
) -> SelectedRows:
    """Select rows of each input's newest revision, as :func:`read_latents` does.

    Args:
        snapshot: the output.
        columns: of the table; all but the latent when None.
        where: SQL condition over all columns but the latent.

    Raises:
        SpecError: there is no such column, or ``where`` is not a condition.
        FatalError: a file is missing or damaged.
    """
    wanted = Wanted(snapshot.out, columns, where, "current")
    return SelectedRows.of(snapshot.out, picks_of(snapshot, wanted))
