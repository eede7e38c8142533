"""The files of an output: what a local folder and an object store have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from restyle.pipeline.storage.containment import check_name


@dataclass(frozen=True)
class Part:
    """Successive bytes of a file.

    Attributes:
        name: of the file, relative to the output.
        start: offset of the first byte.
        size: number of bytes; up to the end when None.
    """

    name: str
    start: int = 0
    size: int | None = None

    @property
    def end(self) -> int | None:
        """Offset behind the last byte; None for the end of the file."""
        return None if self.size is None else self.start + self.size


class Storage(ABC):
    """A local or remote folder with files by relative name (``latents/part-1.parquet``).

    Attributes:
        address: as :func:`restyle.pipeline.storage.filesystem.open_storage` takes it.
        uri: the same, for display.
    """

    address: str
    uri: str

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file atomically.

        Raises:
            FatalError: no space, no permission, no such bucket.
            TransientError: a retry may help.
        """

    def read(self, name: str) -> bytes:
        """Read a file; raises what :meth:`read_parts` does."""
        return self.read_parts([Part(name)])[0]

    def read_many(self, names: list[str]) -> list[bytes]:
        """The content of several files, in order; raises what :meth:`read_parts` does."""
        return self.read_parts([Part(name) for name in names])

    @abstractmethod
    def read_parts(self, parts: Sequence[Part]) -> list[bytes]:
        """Read parts of files, from a remote store many at once.

        Returns:
            The bytes of each part in order; fewer where its file ends before.

        Raises:
            FileNotFoundError: there is no such file.
            FatalError: no permission.
            TransientError: a retry may help.
        """

    @abstractmethod
    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
        """List the files directly inside a folder; none when it is missing.

        Args:
            folder: relative to the output; empty for the output itself.
            prefix: what the files' own names begin with. A store that can lists no others.

        Returns:
            Relative name to bytes, sorted.
        """

    @abstractmethod
    def tree(self) -> dict[str, int]:
        """List all files below the folder, hidden ones too; none when it is missing.

        Returns:
            Relative name to bytes, sorted. Links are listed and not followed.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file if it exists."""

    def move(self, name: str, target: str) -> None:
        """Rename a file or link, replacing an existing target.

        Raises:
            FileNotFoundError: there is no such file.
            FatalError, TransientError: as :meth:`write`.
        """
        self.write(target, self.read(name))
        self.delete(name)

    def is_link(self, name: str) -> bool:
        """Whether a file or folder is a link; object stores have none."""
        check_name(name, self.uri)
        return False

    @abstractmethod
    def check_writable(self) -> None:
        """Check that writing works, without leaving files.

        Raises:
            FatalError: it does not work.
        """

    def sweep(self, folder: str) -> None:  # noqa: B027 (remote stores leave nothing behind)
        """Remove temporary files of killed writers of this project and user in a folder."""

    def prune(self, folders: Sequence[str] | None = None) -> None:  # noqa: B027 (objects have none)
        """Remove empty folders, and the output's folder if it did not exist before.

        Args:
            folders: folders to remove; when None, those that did not exist before.
        """

    def shown(self, name: str) -> str:
        """Address of a file, for display."""
        return f"{self.uri.rstrip('/')}/{name}"
