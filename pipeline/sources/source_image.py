"""One input: its identity, where its bytes are, and what the listing knows about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One input, whatever its bytes turn out to be.

    Attributes:
        image_id: 32 hex digits: BLAKE2b-128 of its identity, the same in every run. The identity is
            the URI; of a member of a file, the URI, ``::`` and the member's name or ``row`` and
            its number.
        source: as the user knows it, fit to be shown: ``s3://bucket/shard.tar::img/1.jpg``.
        uri: full URI of the file that holds it; bytes, because local names need not be UTF-8.
        size: bytes of the image, -1 when the listing does not say.
        version: etag, or the time of the last change, of the file that holds it; tells a changed
            input from the same one. Empty when unknown.
        place: where in the file: empty for the whole of it, ``tar:OFFSET``, or
            ``row:GROUP:ROW:COLUMN``.
        fault: ``reason|message`` when planning found out already that it must be rejected, else
            empty. The reason is one of :class:`restyle.core.errors.RejectReason`.
        revision: version of its rows: 1 at first, one more whenever the input changed or was
            tried again.
    """

    image_id: str
    source: str
    uri: bytes
    size: int
    version: str
    place: str = ""
    fault: str = ""
    revision: int = 1


def image_id(identity: bytes) -> str:
    """BLAKE2b-128 of an identity, in hex: what names an input in every dataset."""
    return hashlib.blake2b(identity, digest_size=16).hexdigest()
