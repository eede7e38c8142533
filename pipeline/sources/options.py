"""How an input is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

InputFormat = Literal["auto", "files", "tar", "parquet", "list"]


@dataclass(frozen=True)
class InputOptions:
    """How ``INPUT`` is to be read.

    Attributes:
        format: ``files`` takes every file for an image, ``tar`` and ``parquet`` for a shard of
            images, ``list`` for a list of URIs; ``auto`` goes by the names of the files.
        column: of Parquet and CSV: the one that holds image bytes or URIs; None for the only one
            that can.
        allow_private_urls: entries of lists, and redirects, may lead to this machine and its
            network.
    """

    format: InputFormat = "auto"
    column: str | None = None
    allow_private_urls: bool = False
