"""A folder that was moved, linked or copied is noticed; one that is another is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import InputPlan, plan_only
from restyle.pipeline.sources.options import InputOptions


class Heard(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)


def planned(source: Path, out: Path) -> tuple[int, list[str]]:
    """How many inputs are new, and what was said of having seen them."""
    heard = Heard()
    outcome = plan_only(InputPlan(str(source), str(out), InputOptions()), heard)
    return outcome.planned.new, [line for line in heard.lines if "a second time" in line]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "2026").mkdir(parents=True)
    for index in range(6):
        name = f"2026/{index}.jpg" if index % 2 else f"{index}.jpg"
        (folder / name).write_bytes(b"\xff\xd8\xff" + b"x" * (100 + index))
    return folder


def _moved(album: Path) -> Path:
    return album.rename(album.with_name("moved"))


def _linked(album: Path) -> Path:
    link = album.with_name("link")
    link.symlink_to(album)
    return link


def _copied_with_more(album: Path) -> Path:
    copy = Path(shutil.copytree(album, album.with_name("copy")))
    for index in range(5):
        (copy / f"new-{index}.jpg").write_bytes(b"\xff\xd8\xff" + b"y" * index)
    return copy


@pytest.mark.parametrize(
    ("change", "alike", "new"), [(_moved, 6, 6), (_linked, 6, 6), (_copied_with_more, 6, 11)]
)
def test_it_is_said_how_to_continue(
    change: Callable[[Path], Path], alike: int, new: int, album: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert planned(album, out) == (6, [])
    again = change(album)
    count, (line,) = planned(again, out)
    assert count == new
    assert f"{alike} of {new} new inputs" in line
    assert f"planned from {album}" in line
    # As it says: the plan is deleted, and the former path leads to the files.
    (plan,) = [path for path in (out / "_ledger").glob("plan-*.parquet") if str(path) in line]
    plan.unlink()
    if not album.exists():
        album.symlink_to(again)
    assert planned(album, out) == (0, [])


def _sizes_differ(album: Path) -> Path:
    other = Path(shutil.copytree(album, album.with_name("other")))
    for path in other.rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"z")
    return other


def _names_differ(album: Path) -> Path:
    other = Path(shutil.copytree(album, album.with_name("other")))
    for path in list(other.rglob("*.jpg")):
        path.rename(path.with_stem(f"scan-{path.stem}"))
    return other


def _mostly_new(album: Path) -> Path:
    other = album.with_name("other")
    other.mkdir()
    shutil.copy(album / "0.jpg", other)
    for index in range(5):
        (other / f"{index + 10}.jpg").write_bytes(b"\xff\xd8\xff" + b"y" * index)
    return other


@pytest.mark.parametrize("change", [_sizes_differ, _names_differ, _mostly_new])
def test_of_other_photographs_nothing_is_said(
    change: Callable[[Path], Path], album: Path, tmp_path: Path
) -> None:
    planned(album, tmp_path / "out")
    count, lines = planned(change(album), tmp_path / "out")
    assert count > 0
    assert lines == []


def test_a_folder_that_grows_is_not_one_that_moved(album: Path, tmp_path: Path) -> None:
    planned(album, tmp_path / "out")
    (album / "new").mkdir()
    shutil.copy(album / "0.jpg", album / "new" / "0.jpg")
    assert planned(album, tmp_path / "out") == (1, [])
