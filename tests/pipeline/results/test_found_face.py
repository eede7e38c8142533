"""Which face a name means, beside the definition applied to every row; and how little is read."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.results import face_rows
from restyle.pipeline.results.face_rows import Selection, select_keys
from restyle.pipeline.results.found_face import find_face
from restyle.pipeline.results.latents import read_latents
from tests.pipeline.fabricated import Made, fabricate, image, redo

NAMES = ["/a/x.jpg", "/b/x.jpg", "x.jpg", "s.tar::y.jpg", "/c/y.jpg", "/c/[1].jpg", "/c/z#0", "z"]
MADE = Made(faces=60, rejects=20, unit=8, names=NAMES, reconstructions="none")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten units; the fifth input was changed and done again, the seventh and then rejected."""
    folder = tmp_path_factory.mktemp("found")
    storage = fabricate(folder, MADE)
    redo(storage, MADE, 4, 2, rejected=False)
    redo(storage, MADE, 20, 3, rejected=True)
    return folder


def meant(out: Path, name: str) -> list[str]:
    """Sources of the best matches among all faces that stand, by the definition."""
    rows, _ = read_latents(out)
    ranks: dict[int, list[str]] = {}
    for source, image_id in zip(rows.source, rows.image_id, strict=True):
        last = re.split(r"/|::", source)[-1]
        if name in (source, image_id):
            rank = 1
        elif name == last:
            rank = 2
        elif any(fnmatch.fnmatchcase(each, name) for each in (source, last)):
            rank = 3
        else:
            continue
        ranks.setdefault(rank, []).append(source)
    return ranks[min(ranks)] if ranks else []


@pytest.mark.parametrize("is_compacted", [False, True])
def test_it_is_the_one_of_the_definition(out: Path, is_compacted: bool, tmp_path: Path) -> None:
    if is_compacted:
        storage = fabricate(tmp_path, MADE)
        redo(storage, MADE, 4, 2, rejected=False)
        redo(storage, MADE, 20, 3, rejected=True)
        compact(str(tmp_path))
        out = tmp_path
    rows, latents = read_latents(out)
    tried = [
        *NAMES,
        "y.jpg",
        "*.jpg",
        "*/x.jpg",
        "*1]*",
        "/c/*",
        "*0001?.jpg",
        "*000011*",
        "000011",
    ]
    tried += [image(MADE, number).image_id for number in (4, 20, 30, 70)]
    tried += ["000020.jpg", "000070.jpg", "tar::y.jpg", "jpg", "[0-9]*11.jpg", "z#0", "z#1", ""]
    once = 0
    for name in tried:
        expected = meant(out, name)
        if len(expected) == 1:
            once += 1
            found = find_face(str(out), name)
            (index,) = np.flatnonzero(rows.source == expected[0])
            assert found.sources == expected
            assert found.keys == [
                (rows.image_id[index], int(rows.revision[index]), int(rows.face[index]))
            ]
            np.testing.assert_array_equal(found.latents[0], latents[index])
        else:
            with pytest.raises(SpecError, match="may be any of" if expected else "has no face"):
                find_face(str(out), name)
    assert once > 10


def test_only_the_unit_that_is_meant_is_opened(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = face_rows.open_parquet

    @contextlib.contextmanager
    def counted(where: str, name: str) -> Iterator[Any]:
        opened.append(name)
        with original(where, name) as parquet:
            yield parquet

    monkeypatch.setattr(face_rows, "open_parquet", counted)
    for name in ("000030.jpg", image(MADE, 31).image_id):
        opened.clear()
        find_face(str(out), name)
        assert len(set(opened)) == 1
    opened.clear()
    with pytest.raises(SpecError):
        find_face(str(out), "nobody.jpg")
    assert opened == []
    # While whoever wants all faces opens all.
    select_keys(str(out), Selection())
    assert len(set(opened)) > 5


def test_many_that_may_be_meant_are_not_all_looked_at(out: Path) -> None:
    with pytest.raises(SpecError, match=r"may be any of (\S+, ){4}\S+ and others; name one"):
        find_face(str(out), "*.jpg")
