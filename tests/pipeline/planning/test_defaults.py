from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.core.faces.alignment import PREDICTOR_VARIABLE
from restyle.pipeline.ledger import settings as module
from tests.pipeline.resolved import resolved


def test_defaults_come_from_the_model() -> None:
    faces = resolved()
    assert (faces.steps, faces.align) == (5, True)
    assert faces.metrics == ("l2", "ms_ssim", "lpips", "id_similarity")
    church = resolved(is_aligned=False)
    assert not church.align
    assert church.metrics == ("l2", "ms_ssim", "lpips")
    assert resolved(iterative=False).steps == 1


def test_a_single_pass_encoder_takes_one_step() -> None:
    assert resolved(iterative=False, steps=1).steps == 1
    with pytest.raises(SpecError, match="single pass"):
        resolved(iterative=False, steps=5)


def test_what_means_nothing_makes_no_difference() -> None:
    whole = resolved(align=False)
    assert whole.fingerprint == resolved(align=False, faces="all").fingerprint
    assert resolved(metrics=("lpips", "l2", "l2")) == resolved(metrics=("l2", "lpips"))


@pytest.mark.parametrize("asked", [None, "exact"])
def test_an_output_from_before_detectors_continues(asked: str | None) -> None:
    earlier = resolved().model_copy(update={"detector": None})
    assert earlier.searched_by == "exact"
    assert resolved(detector=asked, earlier=earlier).fingerprint == earlier.fingerprint
    other = resolved(detector="hog", earlier=earlier)
    assert other.differences(earlier) == ["detector: exact -> hog"]


def test_an_output_keeps_its_detector() -> None:
    exact = resolved(detector="exact")
    assert resolved(earlier=exact) == exact
    assert resolved(detector="hog", earlier=exact).differences(exact) == ["detector: exact -> hog"]
    assert resolved().detector == "hog"
    assert resolved(align=False, detector="exact").detector is None
    assert resolved(align=False).differences(exact)


def test_another_landmark_predictor_is_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.PREDICTOR_VARIABLE == PREDICTOR_VARIABLE
    base = resolved()
    (tmp_path / "mine.dat").write_bytes(b"predictor")
    monkeypatch.setenv(PREDICTOR_VARIABLE, str(tmp_path / "mine.dat"))
    assert resolved().landmarks == "sha256:" + hashlib.sha256(b"predictor").hexdigest()
    assert resolved().fingerprint != base.fingerprint
    monkeypatch.setenv(PREDICTOR_VARIABLE, str(tmp_path / "missing.dat"))
    with pytest.raises(SpecError, match=r"missing.dat"):
        resolved()
    assert resolved(align=False).landmarks == ""
