"""The table of the detectors: counts against a known truth, and a run that goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from recipes.detection import table
from recipes.photographs.truth import Face, Photograph, write_truth


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A face, a face that is said to be elsewhere, and a cat."""
    folder = tmp_path / "photographs"
    head = Image.fromarray(data.astronaut()[:256, 100:356])
    for file, picture in {
        "hard/right-00.png": head,
        "hard/wrong-00.png": head,
        "faceless/cat-00.png": Image.fromarray(data.chelsea()),
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / file)
    write_truth(
        folder,
        0,
        [
            Photograph("hard/right-00.png", "hard", (256, 256), 1, [Face((120, 121), 90)]),
            Photograph("hard/wrong-00.png", "hard", (256, 256), 1, [Face((20, 220), 30)]),
            Photograph("faceless/cat-00.png", "faceless", (451, 300)),
        ],
    )
    return folder


def test_a_table_is_counted_and_continued(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    options = {"detectors": "hog", "faces": "largest", "rows": rows}
    table.main(photographs, subsets="hard", **options)  # type: ignore[arg-type]
    assert "hard/right-00.png hog: 1 of 1, 0 false" in capsys.readouterr().out
    table.main(photographs, subsets="hard,faceless", **options)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    # What was done before is counted and not computed again.
    assert "hard/right-00.png" not in printed
    assert "faceless/cat-00.png hog: 0 of 0, 0 false" in printed
    assert [json.loads(line)["file"] for line in rows.read_text().splitlines()] == [
        "hard/right-00.png",
        "hard/wrong-00.png",
        "faceless/cat-00.png",
    ]
    sums = [" ".join(line.split()) for line in printed.splitlines()]
    assert "right hog photographs 1 faces 1 found 1 false 0 cropped 1 confirmed 0" in sums
    assert "wrong hog photographs 1 faces 1 found 0 false 1 cropped 0 confirmed 0" in sums
    assert "all hog photographs 3 faces 2 found 1 false 1 cropped 1 confirmed 0" in sums
