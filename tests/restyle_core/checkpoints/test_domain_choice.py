"""What a published checkpoint is for follows from what is known of it, whatever its data is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from restyle.core.checkpoints.conversion import convert
from restyle.core.checkpoints.domain_choice import choose_domain
from restyle.core.errors import SpecError
from restyle.core.inference.model import load_model
from restyle.core.networks.config import EncoderKind, absolute_spec, find_model, with_domain
from tests.restyle_core.fabricate import checkpoint, save

PSP, RESNET = EncoderKind.BACKBONE, EncoderKind.RESNET_BACKBONE
E4E = EncoderKind.PROGRESSIVE_BACKBONE


def chosen(dataset: str | None, kind: EncoderKind = RESNET, size: int = 256, **options: Any) -> str:
    given = {**options, **({} if dataset is None else {"dataset_type": dataset})}
    return choose_domain(given, kind, size).preset.name


@pytest.mark.parametrize(
    ("dataset", "domain"),
    [
        # As published: ReStyle's, pSp's and e4e's configurations.
        ("ffhq_encode", "faces"),
        ("ffhq_frontalize", "faces"),
        ("toonify", "faces"),
        ("celebs_sketch_to_face", "faces"),
        ("celebs_seg_to_face", "faces"),
        ("celebs_super_resolution", "faces"),
        ("cars_encode", "cars"),
        ("church_encode", "church"),
        ("horse_encode", "horse"),
        ("afhq_wild_encode", "wild"),
        # Users' own.
        ("my_faces_encode", "faces"),
        ("CelebA-HQ", "faces"),
        ("ffhq256_v2", "faces"),
        ("old portraits", "faces"),
        ("stanford_cars_2", "cars"),
        ("horses", "horse"),
        # Of none, or of several.
        ("trains_encode", "trains"),
        ("faces_of_horses", "faces_of_horses"),
        ("surfaces_encode", "surfaces"),
        ("carsten", "carsten"),
        (None, "unknown"),
        ("", "unknown"),
    ],
)
def test_names_of_data_sets(dataset: str | None, domain: str) -> None:
    assert chosen(dataset) == domain


@pytest.mark.parametrize(
    ("kind", "size", "options", "domain"),
    [
        # A loss of identity is one of faces, where MoCo has an option of its own.
        (PSP, 256, {"id_lambda": 0.1, "moco_lambda": 0}, "faces"),
        (RESNET, 256, {"id_lambda": 1, "moco_lambda": 0.0}, "faces"),
        # e4e's stands for MoCo as well.
        (RESNET, 256, {"id_lambda": 0.5}, "mine"),
        (RESNET, 256, {"id_lambda": 0, "moco_lambda": 0.5}, "mine"),
        # By the shapes in which models of faces were published, and no others.
        (PSP, 1024, {}, "faces"),
        (E4E, 1024, {}, "faces"),
        (EncoderKind.ENCODER4EDITING, 1024, {}, "faces"),
        (PSP, 512, {}, "mine"),
        (RESNET, 1024, {}, "mine"),
        (PSP, 1024, {"moco_lambda": 0.5}, "mine"),
        # Values that are none.
        (PSP, 256, {"id_lambda": "0.1", "moco_lambda": None}, "mine"),
        (PSP, 256, {"id_lambda": float("nan"), "moco_lambda": 0}, "mine"),
        (PSP, 256, {"id_lambda": float("inf"), "moco_lambda": 0}, "mine"),
    ],
)
def test_options_and_shapes(
    kind: EncoderKind, size: int, options: dict[str, Any], domain: str
) -> None:
    assert chosen("mine_encode", kind, size, **options) == domain


def test_the_surest_evidence_counts() -> None:
    faces = {"id_lambda": 0.1, "moco_lambda": 0}
    assert chosen("cars_encode", PSP, 1024, **faces) == "cars"
    assert chosen("my_cars", PSP, 256, **faces) == "faces"
    # Animals' faces, trained with MoCo, are not for dlib.
    assert chosen("cat_faces", PSP, 1024, moco_lambda=0.5) == "cat_faces"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dataset_type": "toonify"}, "its dataset_type is toonify"),
        ({"id_lambda": 0.1, "moco_lambda": 0}, "trained with a loss of identity, id_lambda 0.1"),
        ({"dataset_type": "x"}, "1024x1024 pixels and an encoder of this kind"),
        (
            {"dataset_type": "x", "moco_lambda": 1.0},
            "nothing is known of dataset_type 'x'; --domain",
        ),
    ],
)
def test_why_is_said(options: dict[str, Any], reason: str) -> None:
    assert choose_domain(options, PSP, 1024).reason.startswith(reason)


def test_what_is_asked_for_counts_most() -> None:
    options = {"dataset_type": "ffhq_encode"}
    found = choose_domain(options, PSP, 1024, "cars")
    assert (found.preset.name, found.preset.image_size, found.reason) == (
        "cars",
        (192, 256),
        "as given",
    )
    # The file's own name, as versions took it that did not know it: nothing special.
    own = choose_domain({"dataset_type": "toonify"}, PSP, 1024, "toonify").preset
    assert (own.name, own.align) == ("toonify", False)
    with pytest.raises(SpecError, match=r"no domain 'face'; there are .*faces.*and 'ffhq'"):
        choose_domain(options, PSP, 1024, "face")


@pytest.fixture(scope="module")
def toonify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = checkpoint("BackboneEncoder", 64, dataset="toonify")
    return save(content, tmp_path_factory.mktemp("published") / "toonify.pt")


def test_a_file_with_a_domain_behind_it(toonify: Path, tmp_path: Path) -> None:
    plain, whole = load_model(toonify), load_model(f"{toonify}:toonify")
    assert plain.config.align
    assert plain.domain_reason == "its dataset_type is toonify"
    assert not whole.config.align
    assert whole.fingerprint != plain.fingerprint
    assert load_model(f"{toonify}:faces").fingerprint == plain.fingerprint
    with pytest.raises(SpecError, match="no domain 'dogs'"):
        load_model(f"{toonify}:dogs")
    assert find_model(f"{toonify}:faces") == (toonify, "faces")
    assert absolute_spec(f"{toonify}:faces") == f"{toonify}:faces"
    # A file that is called so is meant before that.
    odd = toonify.rename(tmp_path / "a.pt:faces")
    assert find_model(str(odd)) == (odd, None)
    odd.rename(toonify)


def test_domain_is_for_published_checkpoints(toonify: Path) -> None:
    assert with_domain(str(toonify), "cars") == f"{toonify}:cars"
    assert with_domain(f"{toonify}:faces", "cars") == f"{toonify}:cars"
    with pytest.raises(SpecError, match=r"--domain is for published checkpoints; the model\.json"):
        with_domain("faces64", "cars")


def test_convert_writes_and_tells_it(toonify: Path, tmp_path: Path) -> None:
    one = convert(toonify, tmp_path / "one")
    two = convert(toonify, tmp_path / "two", "church")
    assert one.config.align
    assert two.config.domain == "church"
    assert [one.domain_reason, two.domain_reason] == ["its dataset_type is toonify", "as given"]


def test_options_may_be_a_namespace(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 64, dataset="celebs_seg_to_face")
    content["opts"] = argparse.Namespace(**content["opts"])
    assert load_model(save(content, tmp_path / "a.pt")).config.domain == "faces"
