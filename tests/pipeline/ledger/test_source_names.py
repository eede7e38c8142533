"""One rule for names of photographs: what is said literally, and then as a pattern."""

from __future__ import annotations

from pathlib import Path

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


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [
        f"{tmp_path}/in/a.jpg",
        f"{tmp_path}/in/b.tar::a.jpg",
        "/other/a.jpg",
        "s3://b/a.jpg",
    ]
    column = pa.chunked_array([sources])

    def meant(name: str) -> list[str]:
        ranks = source_ranks(column, name)
        return [source for source, rank in zip(sources, ranks, strict=True) if rank != NO_MATCH]

    assert meant("in/a.jpg") == meant("./in/a.jpg") == meant(f"../{tmp_path.name}/in/a.jpg")
    assert meant("in/a.jpg") == sources[:1]
    assert meant("in/b.tar::a.jpg") == sources[1:2]
    assert meant("in/*") == sources[:2]
    assert meant("s3://b/a.jpg") == sources[3:]
    assert meant("b/a.jpg") == []
    # A name alone is that of a file anywhere, not of one here.
    monkeypatch.chdir(tmp_path / "..")
    assert meant("a.jpg") == sources


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
