"""Photographs with profile, EXIF and thumbnail, through ``invert`` and ``edit --paste-back``."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image, ImageCms

from restyle.core.editing.paste_back import soft_mask
from restyle.core.imaging.decoding import decode_image
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from tests.pipeline import in_process
from tests.restyle_core.icc import DISPLAY_P3, rgb_profile
from tests.restyle_core.imaging.test_photograph import exif_with_thumbnail, saved

PROFILE = rgb_profile(DISPLAY_P3, 2.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """One photograph in three forms: as it is, in Display P3, and lying on its side in that."""
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "photos").mkdir()
    plain = decode_image((photos / "smile.jpg").read_bytes())
    plain.save(folder / "photos" / "plain.png")
    to_p3 = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(PROFILE)),
        "RGB", "RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    wide = ImageCms.applyTransform(plain, to_p3)
    assert wide is not None
    wide.save(folder / "photos" / "wide.png", icc_profile=PROFILE)
    side = wide.transpose(Image.Transpose.ROTATE_90)
    small = saved(side.resize((80, 60)), quality=80)
    side.save(folder / "photos" / "side.jpg", quality=98, subsampling=0, icc_profile=PROFILE,
              exif=exif_with_thumbnail(6, small))  # fmt: skip
    settings = InversionSettings(model="faces64", steps=2, metrics=("l2",), dtype="fp32")
    request = Request(str(folder / "photos"), str(folder / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    return folder


def test_crops_of_one_picture_agree_whatever_its_profile(folder: Path) -> None:
    rows = pq.read_table(folder / "out" / "reconstructions").to_pylist()
    crops = {
        Path(row["source"]).stem: np.asarray(Image.open(io.BytesIO(row["image"])), int)
        for row in rows
        if row["step"] == 0
    }
    for name in ("wide", "side"):
        assert np.abs(crops[name] - crops["plain"]).mean() < 1


@pytest.mark.parametrize("how", ["change", "face"])
def test_a_photograph_keeps_its_profile_and_metadata(
    folder: Path, tmp_path: Path, how: str
) -> None:
    request = EditRequest(
        out=str(folder / "out"), to=str(tmp_path), moves=(Move("smile", (0.0, 3.0)),),
        score=False, paste_back=how, device="cpu",
    )  # fmt: skip
    edit(request)
    quads = {
        Path(row["source"]).stem: np.array(row["quad"]).reshape(4, 2)
        for row in pq.read_table(folder / "out" / "latents").to_pylist()
    }
    for row in pq.read_table(tmp_path / "edits").to_pylist():
        path = Path(row["source"])
        result = Image.open(io.BytesIO(row["photo"]))
        result.load()
        stored = Image.open(path)
        own = np.asarray(stored)
        if path.stem == "side":
            own = np.rot90(own, 3)
        found = np.asarray(result)
        mask = soft_mask(quads[path.stem], (0, 0, *result.size))
        np.testing.assert_array_equal(found[mask == 0], own[mask == 0])
        if how == "change" and row["strength_smile"] == 0:
            np.testing.assert_array_equal(found, own)
        else:
            assert (found != own)[mask == 1].mean() > 0.5
        assert result.info.get("icc_profile") == stored.info.get("icc_profile")
        if path.stem == "side":
            exif = result.getexif()
            assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation]) == ("Cam", 1)
            assert ExifTags.Base.JpegIFOffset in exif.get_ifd(ExifTags.IFD.IFD1)
