"""How an input is to be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputOptions:
    """How ``INPUT`` is to be read.

    Attributes:
        format: ``files`` takes every file for an image, the name of a format (``tar``,
            ``parquet``, ``list``, ...) for one of that format; ``auto`` goes by the names of the
            files.
        column: of Parquet and CSV: the one that holds image bytes or URIs; None for the only one
            that can.
        allow_private_urls: entries of lists, and redirects, may lead to this machine and its
            network.
    """

    format: str = "auto"
    column: str | None = None
    allow_private_urls: bool = False
