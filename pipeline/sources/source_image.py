"""The record of one input: its identity, location, and listed size and version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One input, which may turn out not to be an image.

    Attributes:
        image_id: 32 hex digits, the BLAKE2b-128 hash of the identity; the same in every run. The
            identity is the URI; for a member of a file it is the URI, ``::`` and the member's name,
            or ``row`` and the row number.
        source: display name for the user, such as ``s3://bucket/shard.tar::img/1.jpg``.
        uri: full URI of the file that contains the input; bytes, because local names need not be
            UTF-8.
        size: size of the image in bytes, -1 if the listing does not state it.
        version: ETag or modification time of the file that contains the input, used to detect
            changed inputs; empty if unknown.
        place: location within the file: empty for the whole file, ``tar:OFFSET``, or
            ``row:GROUP:ROW:COLUMN``.
        fault: ``reason|message`` if planning has already found that the input must be rejected,
            else empty. The reason is one of :class:`restyle.core.errors.RejectReason`.
        revision: version of the input's rows: 1 at first, incremented each time the input changes
            or is retried.
        landmarks: where the user has the landmarks of its faces, the bytes of an array of
            :data:`restyle.core.faces.anchors.ANCHORS`, an element for each face; else empty.
    """

    image_id: str
    source: str
    uri: bytes
    size: int
    version: str
    place: str = ""
    fault: str = ""
    revision: int = 1
    landmarks: bytes = b""


def image_id(identity: bytes) -> str:
    """Return the BLAKE2b-128 hash of an identity in hex, the key of an input in every dataset."""
    return hashlib.blake2b(identity, digest_size=16).hexdigest()
