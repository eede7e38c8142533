"""Tar archives, as WebDataset writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from restyle.pipeline.sources.formats.source_format import (
    Index,
    Members,
    Piece,
    Skipped,
    SourceFormat,
)

if TYPE_CHECKING:
    from restyle.pipeline.sources.ranged_file import RangedFile

_MEMBERS_AT_ONCE = 1024
_MAGIC = slice(257, 262)


class _Tar(SourceFormat):
    name = "tar"
    extensions = ("tar",)
    compressed = (
        *("tgz", "tbz", "tbz2", "txz", "tzst", "taz", "tlz"),
        *(f"tar.{end}" for end in ("gz", "bz2", "xz", "zst", "lz4", "lzma", "lz", "z", "br")),
    )
    is_contiguous = True
    readers = ("restyle.pipeline.sources.formats.tar_shard",)
    position = 1

    def begins(self, head: bytes) -> bool:
        return head[_MAGIC] == b"ustar"

    def index(self, file: RangedFile, asked: Index) -> Iterator[Piece]:
        from restyle.pipeline.sources.formats import tar_shard

        skipped: Counter[str] = Counter()
        images = tar_shard.tar_images(asked.file, file, skipped)
        while some := list(islice(images, _MEMBERS_AT_ONCE)):
            yield Members([(i.image_id, i.source, i.size, i.place, i.fault) for i in some])
        yield Skipped(skipped)


FORMAT = _Tar()
