"""The protocol of an export format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from restyle.pipeline.exporting.rows import ExportedRows


class ExportFormat(ABC):
    """A kind of folder that latents can be exported to.

    Attributes:
        name: as ``--to`` takes it.
        title: what it is, for ``--help`` and messages.
        module: import name of the library that writes it; empty if none is needed.
        extra: extra of this package that installs the library.
        usage: one line of Python that opens ``{folder}``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    usage: ClassVar[str]

    @abstractmethod
    def write(self, rows: ExportedRows, folder: Path) -> None:
        """Write the rows into an empty folder, with a few batches in memory at a time.

        Raises:
            OSError: the folder cannot be written.
        """
