"""What fails for every image because of the job is the job's failure, at the start."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from restyle.core.errors import FatalError
from restyle.core.faces.landmarks import PREDICTOR_VARIABLE, model_files
from restyle.pipeline.decoding.sandbox import CropSettings, IsolatedCropper


def photograph() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize("name", ["a predictor of five points", "no predictor", "no memory"])
def test_no_image_is_rejected_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.dat").write_text("no predictor")
    five = model_files() / "shape_predictor_5_face_landmarks.dat"
    files = {"a predictor of five points": five, "no predictor": tmp_path / "text.dat"}
    if name in files:
        monkeypatch.setenv(PREDICTOR_VARIABLE, str(files[name]))
    memory = 6 * 2**20 if name == "no memory" else 2**30
    size = (2048, 2048) if name == "no memory" else (256, 256)
    words = {
        "a predictor of five points": "predicts 5 points, alignment needs 68",
        "no predictor": "is no landmark predictor",
        "no memory": "not even a blank one.*more memory than one image may",
    }[name]
    settings = CropSettings(
        align=name != "no memory", faces="largest", size=size, memory_limit=memory
    )
    cropper = IsolatedCropper(settings)
    try:
        # A group that comes when the first was refused is not left waiting for a child's word.
        for _ in range(2):
            with pytest.raises(FatalError, match=words):
                cropper([photograph()])
    finally:
        cropper.close()
