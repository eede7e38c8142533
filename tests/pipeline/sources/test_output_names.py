"""What this project wrote, in every version and by every command, is no input again."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.listener import Listener
from restyle.pipeline.pictures.picture_file import write_file
from restyle.pipeline.planning.input_plan import InputPlan, plan_only
from restyle.pipeline.sources import iter_images
from restyle.pipeline.sources.options import InputOptions
from tests.command import ROOT
from tests.warm_command import restyle

VERSION_0_1 = ROOT / "tests" / "outputs" / "version-0.1"
PICTURE = b"\x89PNG\r\n\x1a\n a picture"


def listed(
    source: Path | str, out: Path | str = "/out", notes: list[str] | None = None
) -> list[str]:
    """Names of the inputs, below the source."""
    noted = [] if notes is None else notes
    batches = iter_images(str(source), str(out), InputOptions(), noted=noted.append)
    images = [image for batch in batches for image in batch]
    assert not [image.fault for image in images if image.fault]
    return [image.source.rpartition("photos/")[2] for image in images]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PICTURE)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs, in folders that could be an output's."""
    for name in ("a.jpg", "rejects/b.jpg", "z/steps/c.jpg"):
        picture(tmp_path / "photos" / name)
    return tmp_path / "photos"


OWN = ["a.jpg", "rejects/b.jpg", "z/steps/c.jpg"]


def planned(photos: Path) -> Path:
    plan_only(InputPlan(str(photos), str(photos / "made"), InputOptions()), Listener())
    return photos / "made"


def inversion(photos: Path) -> Path:
    return Path(shutil.copytree(VERSION_0_1 / "inversion", photos / "made"))


def edits(photos: Path) -> Path:
    return Path(shutil.copytree(VERSION_0_1 / "edits", photos / "made"))


def of_another_operation(photos: Path) -> Path:
    made = inversion(photos)
    (made / "latents").rename(made / "segments")
    return made


def training(photos: Path) -> Path:
    for name in ("spec.json", "losses.jsonl", "checkpoint.pt"):
        (photos / "made").mkdir(exist_ok=True)
        (photos / "made" / name).write_bytes(b"{}")
    return picture(photos / "made" / "samples" / "00000100.png").parents[1]


def export(photos: Path) -> Path:
    made = picture(photos / "made" / "pictures" / "0-1-2.webp").parents[1]
    (made / "restyle-view.json").write_text("{}\n")
    (made / "index.html").write_text("<html>")
    return made


def toons(photos: Path) -> Path:
    picture(inversion(photos) / "strip.png")
    return photos / "made"


def moving_picture(photos: Path) -> Path:
    write_file(str(photos / "made" / "smile.webp"), PICTURE)
    write_file(str(photos / "made" / "mix.png"), PICTURE)
    return photos / "made"


MADE = [planned, inversion, edits, of_another_operation, training, export, toons, moving_picture]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_outputs_among_photographs(photos: Path, make: object) -> None:
    made = make(photos)  # type: ignore[operator]
    notes: list[str] = []
    assert listed(photos, notes=notes) == OWN
    skipped = [note for note in notes if note.startswith("passed over: what restyle wrote")]
    assert skipped == [f"passed over: what restyle wrote in {made}"]
    assert listed(f"{photos}/**") == OWN
    # A link leads there, under another name.
    (photos / "linked").symlink_to(made)
    made.rename(photos.parent / "elsewhere")
    (photos / "linked").unlink()
    (photos / "linked").symlink_to(photos.parent / "elsewhere")
    assert listed(photos) == OWN
    # What else is there is somebody's.
    picture(photos / "linked" / "z" / "own.jpg")
    assert listed(photos) == ["a.jpg", "linked/z/own.jpg", *OWN[1:]]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_outputs_on_a_store(photos: Path, make: object) -> None:
    make(photos)  # type: ignore[operator]
    files = fsspec.filesystem("memory")
    files.put(f"{photos}/", "/own-store/photos", recursive=True)
    try:
        assert listed("memory://own-store/photos") == OWN
        assert listed("memory://own-store/photos/**") == OWN
    finally:
        files.rm("/own-store", recursive=True)


@pytest.mark.parametrize("make", [inversion, edits, toons, moving_picture])
def test_outputs_that_are_the_folder_of_the_photographs(photos: Path, make: object) -> None:
    made = make(photos)  # type: ignore[operator]
    for path in sorted(made.iterdir()):
        target = photos / path.name
        if target.exists():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            path.rename(target)
    shutil.rmtree(made)
    for out in ("/out", photos, photos / "new"):
        assert listed(photos, out) == OWN


def test_an_output_alone_is_an_error_that_says_so(tmp_path: Path) -> None:
    made = inversion(tmp_path)
    with pytest.raises(SpecError, match=r"holds no .*what restyle wrote in .*made$"):
        listed(made)


def test_what_input_names_itself_is_read(photos: Path) -> None:
    made = toons(photos)
    assert listed(made / "strip.png") == ["made/strip.png"]
    (row, *_) = listed(made / "reconstructions")
    assert "::row0" in row
    picture(photos / "restyle-view.json" / "x.png")
    assert "restyle-view.json/x.png" in listed(photos)


def test_the_output_of_the_job_however_it_is_written(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(photos / "out" / "odd.jpg")
    (photos.parent / "link").symlink_to(photos)
    (photos.parent / "direct").symlink_to(photos / "out")
    monkeypatch.chdir(photos)
    outs = ["out", "./out", "z/../out", f"{photos}/out/", f"file://{photos}/out"]
    outs += [f"{photos.parent}/link/out", f"{photos.parent}/direct"]
    for out in outs:
        notes: list[str] = []
        assert listed(".", out, notes) == OWN, out
        assert notes == []
    (photos.parent / "again").symlink_to(photos)
    assert [Path(each).name for each in listed(photos.parent / "again", "out")] == [
        *("a.jpg", "b.jpg", "c.jpg"),
    ]


def test_folders_that_are_only_called_like_an_outputs(photos: Path) -> None:
    for name in ("latents", "edits", "reconstructions", "samples", "pictures", "_ledger"):
        picture(photos / name / "own.png")
    expected = sorted([*OWN, *(f"{name}/own.png" for name in ("latents", "edits"))])
    found = listed(photos)
    assert set(expected) <= set(found)
    assert len(found) == len(OWN) + 6
    # So it is where the output goes into their folder, but for the ledger.
    assert set(listed(photos, photos)) == set(found) - {"_ledger/own.png"}


def test_a_second_output_of_the_command(photos: Path) -> None:
    for name in ("one", "two", "one"):
        result = restyle("plan", photos, "--out", photos / name)
        assert result.returncode == 0, result.stderr
        assert " 3 " in f" {' '.join(result.stdout.split())} "
    assert f"passed over: what restyle wrote in {photos}/two" in result.stderr
