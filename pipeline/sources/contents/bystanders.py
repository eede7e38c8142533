"""Recognise files among photographs that are not images: metadata, texts, tables."""

from __future__ import annotations

import os
import re

from restyle.core.errors import RejectReason
from restyle.core.imaging.formats import begins_like_an_image, other_kind
from restyle.pipeline.sources.formats.file_names import extension_of, is_picture
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.source_image import SourceImage

_HEAD_BYTES = 1024
# Control characters other than those that texts contain: tab, line feed, form feed, carriage
# return.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def is_bystander(file: SourceImage) -> bool:
    """Return whether a file in a folder is skipped because it is not an image.

    A file with the extension of an image is always an input, so that a damaged one is reported. For
    other local files the first bytes decide. For other remote files, where that would cost one
    request each, the name decides: without an extension the file is an input.

    Args:
        file: a file that by its name is neither a shard nor a list.
    """
    name = os.fsdecode(file.uri)
    if is_picture(name):
        return False
    has_extension = bool(extension_of(name))
    head = _head(file)
    if head is None:
        return has_extension
    kind = other_kind(head)
    if begins_like_an_image(head) or (
        kind is not None and kind.reason is RejectReason.UNSUPPORTED_FORMAT
    ):
        return False
    # An HTML error page or a Git LFS pointer saved without an extension is kept, and its reject
    # says what it is.
    return has_extension or (kind is None and _is_text(head))


def _head(file: SourceImage) -> bytes | None:
    """Return the first bytes of a local file; None if they cannot be read."""
    if not file.uri.startswith(FILE):
        return None
    try:
        # O_NONBLOCK, because opening a pipe would block until a writer opens it.
        descriptor = os.open(file.uri.removeprefix(FILE), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, _HEAD_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _is_text(head: bytes) -> bool:
    """Return whether a file starts as UTF-8 text; False for an empty file."""
    # The last character may be incomplete.
    for end in range(len(head), max(len(head) - 4, 0), -1):
        try:
            head[:end].decode()
        except UnicodeDecodeError:
            continue
        return _CONTROL.search(head) is None
    return False
