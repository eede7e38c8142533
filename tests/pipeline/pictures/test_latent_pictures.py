"""Lines, mixtures and steps of a small inversion, and the files they become."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from restyle.core.editing.lookup import find_direction
from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.inversion import invert
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.pictures.latent_pictures import LatentPictures, Pictures
from restyle.pipeline.pictures.picture_file import check_kind, grid, write_pictures
from restyle.pipeline.results.aligned_inputs import read_inputs
from restyle.pipeline.results.face_rows import Selection, select_keys
from restyle.pipeline.results.found_face import find_face
from restyle.pipeline.storage.filesystem import open_storage
from tests.inverted import NAMES


@pytest.fixture(scope="module")
def pictures(inverted: Path) -> LatentPictures:
    return LatentPictures(str(inverted / "out"), device="cpu")


def latent(inverted: Path, name: str) -> torch.Tensor:
    rows = pq.read_table(inverted / "out" / "latents", use_threads=False).to_pandas()
    (row,) = (row for _, row in rows.iterrows() if Path(row["source"]).name == name)
    return torch.from_numpy(row["latent"].reshape(10, 512).copy())


def shows(images: object, latents: torch.Tensor, pictures: LatentPictures) -> bool:
    with torch.inference_mode():
        expected = to_pictures(pictures.model.synthesize(latents))
    return all(
        np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
        for one, other in zip(images, expected, strict=True)  # type: ignore[call-overload]
    )


def test_a_face_is_found_by_what_a_person_knows(inverted: Path) -> None:
    out = str(inverted / "out")
    whole = find_face(out, "smile.jpg")
    torch.testing.assert_close(torch.from_numpy(whole.latents[0]), latent(inverted, "smile.jpg"))
    for text in (whole.sources[0], whole.keys[0][0], "sm*", "*/smile.jpg", "smile.jpg#0"):
        assert find_face(out, text).keys == whole.keys
    for text, words in (
        ("smile", "has no face 'smile'"),
        ("not\udcffutf.jpg", "has no face"),
        ("smile.jpg#1", "has no face 'smile.jpg#1'"),
        ("*.jpg", r"may be any of .*blue hat.jpg, .*smile.jpg, .*terrace.jpg; name one"),
    ):
        with pytest.raises(SpecError, match=words):
            find_face(out, text)


def test_a_line_joins_two_faces(inverted: Path, pictures: LatentPictures) -> None:
    line = pictures.interpolated(NAMES[0], NAMES[1], 3)
    first, last = (latent(inverted, name) for name in NAMES[:2])
    torch.testing.assert_close(line.latents, torch.stack([first, (first + last) / 2, last]))
    assert shows(line.images, line.latents, pictures)


def test_mixtures_are_in_the_order_of_the_grid(inverted: Path, pictures: LatentPictures) -> None:
    contents, styles, mixed = pictures.mixed(NAMES[:2], NAMES[1:], (4, 5, 6, 7, 8, 9))
    assert [len(each.images) for each in (contents, styles, mixed)] == [2, 2, 4]
    for index, (content, style) in enumerate((c, s) for c in NAMES[:2] for s in NAMES[1:]):
        torch.testing.assert_close(mixed.latents[index, :4], latent(inverted, content)[:4])
        torch.testing.assert_close(mixed.latents[index, 4:], latent(inverted, style)[4:])
    assert shows(mixed.images, mixed.latents, pictures)


def test_an_edit_goes_there_and_back(inverted: Path, pictures: LatentPictures) -> None:
    edited = pictures.edited(NAMES[0], "pose", [-1, 0, 2])
    pose = find_direction("pose", "faces64")
    step = torch.from_numpy(pose.vector) * pose.about.scale
    expected = latent(inverted, NAMES[0]) + torch.tensor([-1.0, 0, 2]).view(3, 1, 1) * step
    torch.testing.assert_close(edited.latents, expected, atol=1e-5, rtol=1e-5)
    back = edited.there_and_back()
    torch.testing.assert_close(back.latents, edited.latents[[0, 1, 2, 1]])
    assert back.images[3] is edited.images[1]


def test_strengths_beyond_the_reliable_range_are_noted(pictures: LatentPictures) -> None:
    class Notes(Listener):
        def noted(self, line: str) -> None:
            lines.append(line)

    low, high = find_direction("pose", "faces64").about.reliable or (0, 0)
    for strength in (low - 1, high + 0.5):
        lines: list[str] = []
        pictures.edited(NAMES[0], "pose", [low, strength, high], Notes())
        (line,) = lines
        assert line.startswith("pose is reliable from")
        assert line.endswith(f" at strength {strength:g}")
    lines = []
    pictures.edited(NAMES[0], "pose", [low, 0, high], Notes())
    assert lines == []


def test_steps_are_computed_again_as_they_were(inverted: Path, pictures: LatentPictures) -> None:
    steps = pictures.refined(NAMES[2])
    assert len(steps.images) == 4
    torch.testing.assert_close(steps.latents[0], pictures.model.latent_avg)
    torch.testing.assert_close(steps.latents[3], latent(inverted, NAMES[2]), atol=1e-4, rtol=1e-4)
    keys = set(find_face(str(inverted / "out"), NAMES[2]).keys)
    settings = settings_of(open_storage(str(inverted / "out")))
    ((_, picture),) = read_inputs(str(inverted / "out"), settings, keys)
    again = invert(pictures.model, [picture], 3, reconstructions="all")
    torch.testing.assert_close(steps.latents[1:], again.latents[0], atol=1e-4, rtol=1e-4)
    assert shows(steps.images, steps.latents, pictures)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"reconstructions": "none"}, "kept no pictures"), ({"bootstrap": "x"}, "another model's")],
)
def test_outputs_without_inputs_are_refused(
    inverted: Path, changes: dict[str, str], words: str
) -> None:
    out = str(inverted / "out")
    settings = settings_of(open_storage(out)).model_dump() | changes
    with pytest.raises(SpecError, match=words):
        list(read_inputs(out, ResolvedSettings(**settings), set(select_keys(out, Selection()))))


def frames(count: int) -> Pictures:
    images = [Image.new("RGB", (64, 64), (index * 80, 0, 0)) for index in range(count)]
    return Pictures(torch.arange(count * 6.0).reshape(count, 2, 3), images)


def test_files_hold_the_frames(tmp_path: Path) -> None:
    for name in ("a.webp", "a.gif", "a.png", "deep/a.parquet"):
        write_pictures(str(tmp_path / name), frames(3), 0.1)
    for name, count, size in (
        ("webp", 3, (256, 256)),
        ("gif", 3, (256, 256)),
        ("png", 1, (392, 128)),
    ):
        with Image.open(tmp_path / f"a.{name}") as written:
            assert getattr(written, "n_frames", 1) == count
            assert written.size == size
    table = pq.read_table(tmp_path / "deep" / "a.parquet", use_threads=False)
    assert table.schema.field("latent").metadata[b"shape"] == b"[2, 3]"
    np.testing.assert_array_equal(
        np.array(table["latent"].to_pylist()), frames(3).latents.reshape(3, 6).numpy()
    )
    images = [Image.open(io.BytesIO(data)) for data in table["image"].to_pylist()]
    assert [image.getpixel((0, 0)) for image in images] == [(0, 0, 0), (80, 0, 0), (160, 0, 0)]


def test_a_grid_leaves_places_empty() -> None:
    red, blue = (Image.new("RGB", (200, 150), colour) for colour in ("red", "blue"))
    sheet = grid([[None, red], [blue, red]])
    assert sheet.size == (404, 304)
    colours = [sheet.getpixel(place) for place in ((99, 75), (300, 75), (99, 220), (300, 220))]
    assert colours == [(255, 255, 255), (255, 0, 0), (0, 0, 255), (255, 0, 0)]
    assert grid([[Image.new("RGB", (64, 64))]]).size == (128, 128)


def test_other_kinds_of_file_are_refused() -> None:
    assert check_kind("s3://b/x.WebP", (".webp", ".gif")) == ".webp"
    with pytest.raises(SpecError, match=r"ends in \.webp, \.gif"):
        check_kind("x.txt", (".webp", ".gif"))
    with pytest.raises(SpecError, match=r"ends in \.webp, \.gif"):
        check_kind("x.mp4", (".webp", ".gif"))
