"""One rule for names of photographs: what is said literally, and then as a pattern."""

from __future__ import annotations

import pyarrow as pa
import pytest

from restyle.pipeline.ledger.source_names import NO_MATCH, best_rank, source_ranks

SOURCES = [
    "a[1].tiff",
    "a1.tiff",
    "holiday/a[1].tiff",
    "holiday/b*.png",
    "holiday/bc.png",
    "shard.tar::q?.jpg",
    "shard.tar::qa.jpg",
    "new\\nline.gif",
    "work/not\\xffutf.gif",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a[1].tiff", ["a[1].tiff"]),
        ("holiday/a[1].tiff", ["holiday/a[1].tiff"]),
        ("b*.png", ["holiday/b*.png"]),
        ("q?.jpg", ["shard.tar::q?.jpg"]),
        ("a1.tiff", ["a1.tiff"]),
        # Patterns, of the whole or of the last part.
        ("a[12].tiff", ["a1.tiff"]),
        ("b?.png", ["holiday/bc.png", "holiday/b*.png"]),
        ("holiday/*", ["holiday/a[1].tiff", "holiday/b*.png", "holiday/bc.png"]),
        ("*.jpg", ["shard.tar::q?.jpg", "shard.tar::qa.jpg"]),
        # As the file system has it, and as the datasets do.
        ("new\nline.gif", ["new\\nline.gif"]),
        ("new\\nline.gif", ["new\\nline.gif"]),
        ("not\udcffutf.gif", ["work/not\\xffutf.gif"]),
        ("*\udcffutf.gif", ["work/not\\xffutf.gif"]),
        ("x", []),
        ("1].tiff", []),
    ],
)
def test_what_is_meant(name: str, meant: list[str]) -> None:
    column = pa.chunked_array([SOURCES[:3], SOURCES[3:]])
    # As if each file of an output held one source.
    rank = best_rank((pa.chunked_array([[source]]) for source in SOURCES), name)
    ranks = source_ranks(column, name)
    found = [source for source, each in zip(SOURCES, ranks, strict=True) if each == rank]
    assert sorted(found if rank != NO_MATCH else []) == sorted(meant)
