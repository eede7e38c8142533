"""Single files and their marks: written together, or neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.pictures.picture_file import check_kind, write_file
from restyle.pipeline.sources.output_names import MARKS


def test_a_file_has_a_mark_that_it_is_no_input(tmp_path: Path) -> None:
    write_file(str(tmp_path / "a.png"), b"data")
    assert (tmp_path / "a.png").read_bytes() == b"data"
    assert [mark.name for mark in (tmp_path / MARKS).iterdir()] == ["a.png"]


@pytest.mark.parametrize("earlier", [[], ["b.png"]])
def test_a_file_that_cannot_be_written_leaves_no_mark(tmp_path: Path, earlier: list[str]) -> None:
    for name in earlier:
        write_file(str(tmp_path / name), b"data")
    # A file cannot take the place of a folder.
    (tmp_path / "a.png").mkdir()
    with pytest.raises(RestyleError, match=r"cannot write .*a\.png"):
        write_file(str(tmp_path / "a.png"), b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["a.png", *earlier, *([MARKS] if earlier else [])]
    )
    assert [mark.name for mark in tmp_path.glob(f"{MARKS}/*")] == earlier


def test_no_password_of_an_address_is_shown() -> None:
    with pytest.raises(SpecError, match=r"s3://bucket/x\.avi: what can be written") as error:
        check_kind("s3://key:hidden@bucket/x.avi", (".png",))
    assert "hidden" not in str(error.value)
