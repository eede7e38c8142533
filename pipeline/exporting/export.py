"""Export the current latents of an output into a folder of another library's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from restyle.core.errors import FatalError, RestyleError, SpecError, reason_of
from restyle.pipeline.exporting.delta_table import DeltaTable
from restyle.pipeline.exporting.format import ExportFormat
from restyle.pipeline.exporting.hugging_face import HuggingFace
from restyle.pipeline.exporting.lance_dataset import Lance
from restyle.pipeline.exporting.npy_file import NpyFile
from restyle.pipeline.exporting.rows import ExportedRows
from restyle.pipeline.exporting.target import check_target, is_begun, whole_folder
from restyle.pipeline.exporting.web_dataset import WebDataset
from restyle.pipeline.forgetting.derived import (
    Derived,
    read_derived,
    record_derived,
    withdraw_derived,
)
from restyle.pipeline.forgetting.tombstone import check_complete
from restyle.pipeline.listener import Listener
from restyle.pipeline.results.forms.extras import require
from restyle.pipeline.results.snapshot import read_snapshot

FORMATS: dict[str, ExportFormat] = {
    each.name: each for each in (HuggingFace(), Lance(), WebDataset(), NpyFile(), DeltaTable())
}


@dataclass(frozen=True)
class Exported:
    """Result of :func:`export`.

    Attributes:
        folder: the folder of the export.
        rows: number of its rows.
        usage: a line of Python that opens it.
    """

    folder: Path
    rows: int
    usage: str


def export(out: str, to: str, target: str, listener: Listener | None = None) -> Exported:
    """Export the rows of each input's newest revision.

    The folder appears when it is complete. Memory holds a few row groups.

    Args:
        out: the output, a path or any fsspec URI.
        to: name of a format, one of :data:`FORMATS`.
        target: the folder to make, on a local disk; must not exist.
        listener: receives a note if the output cannot be told of the export.

    Raises:
        SpecError: there is no such output or format, the output has no faces, the library of the
            format is not installed, or the folder exists.
        FatalError: a file of the output is damaged, or the folder cannot be written.
    """
    form = FORMATS.get(to)
    if form is None:
        raise SpecError(f"there is no format {to!r}; --to takes {', '.join(FORMATS)}")
    if form.module:
        require(form.module, form.extra, f"--to {to}")
    folder = check_target(target, out)
    snapshot = read_snapshot(out)
    check_complete(snapshot.storage, snapshot.output.names)
    ExportedRows.of(snapshot).reader.close()
    # Before the first file, so that forgetting an input finds also what a kill has left.
    derived = Derived(kind="export", address=str(folder))
    was_known = derived in read_derived(snapshot.storage)
    note = record_derived(snapshot.storage, derived)
    if note and listener is not None:
        listener.noted(note)
    try:
        return make_export(out, to, folder)
    except RestyleError:
        if not was_known and not is_begun(folder):
            # Forgetting would ask where it was moved to.
            withdraw_derived(snapshot.storage, derived)
        raise


def make_export(out: str, to: str, folder: Path) -> Exported:
    """Write an export into a folder that was checked; see :func:`export`."""
    snapshot, form = read_snapshot(out), FORMATS[to]
    rows = ExportedRows.of(snapshot)
    about = {"format": to, "out": snapshot.storage.uri, "fingerprint": rows.fingerprint}
    with whole_folder(folder, about) as hidden:
        _write(form, rows, hidden)
    return Exported(folder, rows.count, form.usage.format(folder=folder))


def _write(form: ExportFormat, rows: ExportedRows, folder: Path) -> None:
    """Write the rows, with the library's own errors in one line."""
    try:
        form.write(rows, folder)
    except (RestyleError, MemoryError):
        raise
    except Exception as error:
        # Libraries raise errors of their own; the cause may be one of this project's.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, RestyleError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, RestyleError):
            raise cause from error
        if isinstance(error, OSError):
            raise
        raise FatalError(f"{form.title} cannot be written: {reason_of(error)}") from error
