"""Options that control how ``INPUT`` is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputOptions:
    """Options that control how ``INPUT`` is read.

    Attributes:
        format: ``files`` treats every file as an image; the name of a format (``tar``, ``parquet``,
            ``list``, ...) treats every file as that format; ``auto`` chooses the format by file
            name.
        column: Parquet or CSV column that holds image bytes or URIs; None selects the only suitable
            column.
        allow_private_urls: whether list entries and redirects may lead to this machine and its
            private networks.
        landmarks: file with the landmarks of faces, a path or any fsspec URI; None to detect them.
    """

    format: str = "auto"
    column: str | None = None
    allow_private_urls: bool = False
    landmarks: str | None = None
