"""What the job's own settings or installation fail on ends the run, and is booked on no input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from restyle.core.errors import FatalError
from restyle.core.faces import recognition
from restyle.core.faces.landmarks import PREDICTOR_VARIABLE, model_files
from restyle.core.metrics import lpips
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings

Break = Callable[[pytest.MonkeyPatch, Path], None]


def _five_points(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv(PREDICTOR_VARIABLE, str(model_files() / "shape_predictor_5_face_landmarks.dat"))


def _no_predictor(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "predictor.dat").write_text("<html>quota exceeded</html>")
    patch.setenv(PREDICTOR_VARIABLE, str(folder / "predictor.dat"))


def _cut_recognition(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "weights").write_bytes(recognition.WEIGHTS.read_bytes()[:1000])
    patch.setattr(recognition, "WEIGHTS", folder / "weights")


def _other_lpips(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(lpips, "WEIGHTS", recognition.WEIGHTS)


FAULTS: dict[str, Break] = {
    r"predicts 5 points, alignment needs 68": _five_points,
    r"predictor\.dat is no landmark predictor": _no_predictor,
    r"the recognition network .* cannot be read": _cut_recognition,
    r"does not hold the LPIPS weights": _other_lpips,
}


@pytest.mark.parametrize("said", FAULTS)
def test_the_run_ends_and_rejects_nothing(
    said: str, photos: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    # More than there are processes that decode, so that some come second at one.
    for index in range(6):
        (folder / f"{index}.jpg").write_bytes((photos / "smile.jpg").read_bytes())
    FAULTS[said](monkeypatch, tmp_path)
    settings = InversionSettings(model=str(tiny_model), steps=1, dtype="fp32")
    with pytest.raises(FatalError, match=said):
        invert_images(Request(str(folder), str(tmp_path / "out"), settings, device="cpu"))
    # Not one input was rejected, nor was anything else written.
    assert not (tmp_path / "out").exists()
