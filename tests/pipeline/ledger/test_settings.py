from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from restyle.core.errors import FatalError, SpecError
from restyle.core.faces.alignment import PREDICTOR_VARIABLE
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.ledger import settings as module
from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.planning.defaults import resolve
from restyle.pipeline.storage.filesystem import open_storage


def resolved(**options: object) -> ResolvedSettings:
    model = {
        "model": "faces64:restyle-psp",
        "model_fingerprint": "a" * 64,
        "aligned_domain": True,
        "iterative": True,
        "dtype": "fp32",
        "earlier": None,
    }
    model |= {name: options.pop(name) for name in list(options) if name in model}
    return resolve(InversionSettings(**options), **model)  # type: ignore[arg-type]


def test_defaults_come_from_the_model() -> None:
    faces = resolved()
    assert (faces.steps, faces.align) == (5, True)
    assert faces.metrics == ("l2", "ms_ssim", "lpips", "id_similarity")
    church = resolved(aligned_domain=False)
    assert not church.align
    assert church.metrics == ("l2", "ms_ssim", "lpips")
    assert resolved(iterative=False).steps == 1


def test_a_single_pass_encoder_takes_one_step() -> None:
    assert resolved(iterative=False, steps=1).steps == 1
    with pytest.raises(SpecError, match="single pass"):
        resolved(iterative=False, steps=5)


def test_the_fingerprint_is_a_hash_of_every_field() -> None:
    base = resolved()
    # One that is None is none: outputs from before it existed keep their fingerprint.
    dumped = base.model_dump(mode="json")
    fields = {name: value for name, value in dumped.items() if value is not None}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert base.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    others = [
        resolved(steps=4),
        resolved(align=False),
        resolved(faces="all"),
        resolved(detector="exact"),
        resolved(save_steps="latents"),
        resolved(reconstructions="all"),
        resolved(metrics=("l2",)),
        resolved(dtype="bf16"),
        resolved(model_fingerprint="b" * 64),
    ]
    assert len({each.fingerprint for each in [base, *others]}) == 10
    assert all(other.differences(base) for other in others)
    assert resolved(steps=4).differences(base) == ["steps: 5 -> 4"]
    assert resolved(metrics=()).differences(base) == [
        "metrics: l2,ms_ssim,lpips,id_similarity -> none"
    ]
    assert base.differences(base) == []


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


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 101}, {"faces": "two"}, {"x": 1}])
def test_nonsense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InversionSettings(**options)  # type: ignore[arg-type]


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(SpecError, match="beauty"):
        InversionSettings(metrics=("beauty",))


def test_settings_survive_the_ledger_and_damage_is_told(tmp_path: Path) -> None:
    storage, base = open_storage(str(tmp_path)), resolved(metrics=())
    INVERSION.write_settings(storage, base)
    assert INVERSION.read_settings(storage) == base
    storage.write("_ledger/settings.json", b"{}")
    with pytest.raises(FatalError, match=r"settings.json is damaged"):
        INVERSION.read_settings(storage)
