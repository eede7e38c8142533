"""Files that lie in a folder of photographs and are none: metadata, texts, tables."""

from __future__ import annotations

import os
import re

from restyle.core.errors import RejectReason
from restyle.core.imaging.formats import begins_like_an_image, other_kind
from restyle.pipeline.sources.formats.file_names import extension_of, is_picture
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.source_image import SourceImage

_HEAD_BYTES = 1024
# Bytes below the space that texts have: tab, line feed, form feed, carriage return.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def is_bystander(file: SourceImage) -> bool:
    """Whether a file that a folder holds is passed over because it is no image.

    Whatever has the name of an image is an input, so that a damaged one is accounted for. The
    beginning of another file on this machine is looked at; of a remote one, which would cost a
    request for each file, the name decides, and one without an extension is an input.

    Args:
        file: neither a shard nor a list by its name.
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
    # A download without an extension may be an error page or a pointer, which its reject tells.
    return has_extension or (kind is None and _is_text(head))


def _head(file: SourceImage) -> bytes | None:
    """The first bytes of a local file; None where they are not to be had."""
    if not file.uri.startswith(FILE):
        return None
    try:
        # A pipe would wait for a writer otherwise.
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
    """Whether a file begins as text in UTF-8; an empty one does not."""
    # A character may be cut.
    for end in range(len(head), max(len(head) - 4, 0), -1):
        try:
            head[:end].decode()
        except UnicodeDecodeError:
            continue
        return _CONTROL.search(head) is None
    return False
