from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from restyle.core.errors import SpecError
from restyle.core.networks.config import EncoderKind
from restyle.core.training.encoders.spec import EditableLosses, EncoderSpec
from restyle.core.training.spec import load_spec

MINIMAL = {"name": "toy", "generator": "g", "crops": ["c.npz"], "schedule": {"images": 8}}


def spec(**changes: Any) -> EncoderSpec:
    return EncoderSpec.model_validate(MINIMAL | changes)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, EncoderKind.SMALL_BACKBONE),
        ({"e4e": {}}, EncoderKind.SMALL_PROGRESSIVE_BACKBONE),
        ({"backbone": "ir-se50"}, EncoderKind.BACKBONE),
        ({"backbone": "ir-se50", "iterative": False}, EncoderKind.GRADUAL_STYLE),
        ({"backbone": "ir-se50", "e4e": {}}, EncoderKind.PROGRESSIVE_BACKBONE),
        ({"backbone": "ir-se50", "e4e": {}, "iterative": False}, EncoderKind.ENCODER4EDITING),
        ({"backbone": "resnet34", "e4e": {}}, EncoderKind.RESNET_PROGRESSIVE_BACKBONE),
        ({"backbone": "resnet34", "iterative": False}, EncoderKind.RESNET_GRADUAL_STYLE),
    ],
)
def test_the_kind_follows_from_backbone_heads_and_passes(
    changes: dict[str, Any], kind: EncoderKind
) -> None:
    assert spec(**changes).kind is kind


def test_a_backbone_has_its_usual_size_unless_told() -> None:
    assert spec(backbone="ir-se50").depths == (3, 4, 14, 3)
    assert spec(backbone="resnet34").widths == (64, 128, 256, 512)
    assert spec(widths=(16, 16, 32, 32)).widths == (16, 16, 32, 32)
    again = EncoderSpec.model_validate(spec(backbone="resnet34").model_dump(mode="json"))
    assert again == spec(backbone="resnet34")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (48, 96, 160, 250)}, "multiples of 16"),
        ({"backbone": "ir-se50", "fine_width": 64}, "only be chosen for the small backbone"),
        ({"backbone": "ir-se50", "widths": (64, 64, 64, 64)}, "widths must differ"),
        ({"backbone": "vgg"}, "'small', 'ir-se50' or 'resnet34'"),
        ({"e4e": {"delta": 1}}, "e4e.delta"),
        ({"losses": {"l2": -1}}, "greater than or equal to 0"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**changes)


def test_stages_come_one_by_one() -> None:
    paper = EditableLosses()
    # Steps of eight images: stage i begins at step 20,000 + 2,000 (i - 1).
    for stage in (1, 2, 7):
        begins = 8 * (20_000 + 2_000 * (stage - 1))
        assert (paper.stage(begins - 1), paper.stage(begins)) == (stage - 1, stage)
    assert EditableLosses(stages_from=0, stage_every=0).stage(0) is None


@pytest.mark.parametrize("name", ["restyle-e4e", "single-pass-e4e"])
def test_the_shipped_recipes_are_valid(name: str, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[4] / "recipes" / "faces64" / f"{name}.toml"
    (tmp_path / "data").mkdir()
    for run in ("generator", "restyle-psp", "single-pass-psp"):
        (tmp_path / "runs" / run).mkdir(parents=True)
    for part in ("part0.npz", "part1.npz"):
        (tmp_path / "data" / part).touch()
    (tmp_path / "spec.toml").write_text(recipe.read_text())
    loaded = load_spec(tmp_path / "spec.toml", EncoderSpec)
    assert loaded.init is not None
    assert Path(loaded.init).is_dir()


def test_models_are_named_and_paths_start_at_the_specification(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", images=np.zeros((1, 32, 32, 3), np.uint8))
    (tmp_path / "model").mkdir()
    text = 'name = "toy"\ngenerator = "faces64"\ninit = "model:best"\ncrops = ["c.npz"]\n'
    (tmp_path / "spec.toml").write_text(text + "[schedule]\nimages = 8\n")
    loaded = load_spec(tmp_path / "spec.toml", EncoderSpec)
    assert (loaded.generator, loaded.init) == ("faces64", f"{tmp_path / 'model'}:best")
    (tmp_path / "spec.toml").write_text(text.replace("faces64", "faces63") + "[schedule]\nimages=8")
    with pytest.raises(SpecError, match=r"spec\.toml: it names .*faces63, which does not exist"):
        load_spec(tmp_path / "spec.toml", EncoderSpec)
