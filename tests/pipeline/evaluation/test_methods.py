"""Methods by name, and the models that suit them."""

from __future__ import annotations

from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.evaluation.methods import KINDS, Method, contenders, known
from restyle.pipeline.ledger.settings import InversionSettings
from tests.tiny_model import make_tiny_model


def methods(*names: str) -> list[Method]:
    return [Method.parse(name) for name in names]


@pytest.mark.parametrize(
    ("text", "family", "count", "shown"),
    [
        ("restyle", "restyle", 5, "restyle"),
        ("restyle:3", "restyle", 3, "restyle:3"),
        ("single-pass", "single-pass", 0, "single-pass"),
        ("polish:12", "polish", 12, "polish:12"),
        (" polish ", "polish", 50, "polish:50"),
        ("optimize", "optimize", 500, "optimize:500"),
        ("hybrid:20", "hybrid", 20, "hybrid:20"),
        ("pti", "pti", 350, "pti:350"),
    ],
)
def test_a_method_is_a_name_and_a_number(text: str, family: str, count: int, shown: str) -> None:
    method = Method.parse(text)
    assert (method.family, method.count, str(method)) == (family, count, shown)
    assert Method.parse(str(method)) == method


@pytest.mark.parametrize("text", ["", "magic", "Restyle", "restyle5", "restyle 5", "polish-5"])
def test_an_unknown_method_is_told_the_known_ones(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        Method.parse(text)
    assert all(name in str(caught.value) for name in KINDS)
    assert known() in str(caught.value)


@pytest.mark.parametrize(
    "text", ["restyle:0", "restyle:-1", "restyle:", "restyle:five", "restyle:101", "polish:1e3"]
)
def test_a_wrong_number_is_told_the_range(text: str) -> None:
    with pytest.raises(SpecError, match=r"a number from 1 to [\d,]+"):
        Method.parse(text)


def test_a_method_without_a_number_takes_none() -> None:
    with pytest.raises(SpecError, match="takes no number"):
        Method.parse("single-pass:3")


def test_a_single_pass_is_that_of_the_same_kind_beside_the_encoder() -> None:
    found = contenders(methods("restyle", "single-pass"), ["faces64:restyle-e4e", "faces64"])
    assert [each.model for each in found] == [
        "faces64:restyle-e4e",
        "faces64:restyle-psp",
        "faces64:single-pass-e4e",
        "faces64:single-pass-psp",
    ]
    assert len({each.folder for each in found}) == len(found)


def test_an_optimisation_without_an_encoder_is_the_same_for_all_encoders() -> None:
    found = contenders(methods("optimize:3"), ["faces64:restyle-e4e", "faces64:restyle-psp"])
    assert [(each.model, each.spec) for each in found] == [("faces64", "faces64")]
    (alone,) = contenders(methods("optimize:3"), ["faces64:single-pass-e4e"])
    assert alone == found[0]


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("optimize:30", {"start": "average", "iterations": 30}),
        ("hybrid:40", {"start": "encoder", "iterations": 40}),
        ("pti:50", {"start": "encoder", "iterations": 0, "pivotal": 50}),
    ],
)
def test_optimisation_and_tuning_are_those_of_restyle_optimize(
    method: str, fields: dict[str, object]
) -> None:
    (found,) = contenders(methods(method), ["faces64"])
    made = found.settings(InversionSettings(dtype="fp32"))
    assert made == InversionSettings.model_validate({"model": "faces64", "dtype": "fp32", **fields})


def test_an_encoder_that_was_named_is_taken_once() -> None:
    found = contenders(methods("single-pass"), ["faces64", "faces64:single-pass-psp"])
    assert [each.model for each in found] == ["faces64:single-pass-psp"]


@pytest.mark.parametrize(
    ("method", "models", "lacks"),
    [
        ("single-pass", ["toon64"], "no single-pass encoder"),
        ("restyle", ["faces64:single-pass-psp"], "no encoder that refines"),
        ("restyle", ["faces64:single-pass-psp", "faces64:single-pass-e4e"], "no encoder that"),
    ],
)
def test_a_model_without_the_encoder_is_refused(method: str, models: list[str], lacks: str) -> None:
    with pytest.raises(SpecError, match=lacks) as caught:
        contenders(methods(method), models)
    assert all(model in str(caught.value) for model in models)


def test_models_that_cut_faces_out_otherwise_are_refused(tiny_model: Path) -> None:
    with pytest.raises(SpecError, match=r"framing_scale is 0\.7 and 0\.8"):
        contenders(methods("restyle"), ["faces64", str(tiny_model)])


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    places = [tmp_path / folder / "same" for folder in ("a", "b")]
    for seed, place in enumerate(places):
        place.parent.mkdir()
        make_tiny_model(place, seed=seed)
    with pytest.raises(SpecError, match="two models are called same:restyle-psp"):
        contenders(methods("restyle"), list(map(str, places)))


def test_a_method_gives_its_settings_to_what_all_have_in_common() -> None:
    base = InversionSettings(dtype="fp32", faces="all", metrics=("l2",))
    (found,) = contenders(methods("polish:7"), ["faces64:restyle-e4e"])
    assert found.settings(base) == InversionSettings(
        model="faces64:restyle-e4e", dtype="fp32", faces="all", metrics=("l2",), polish=7
    )
