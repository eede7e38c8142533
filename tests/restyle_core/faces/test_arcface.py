"""Face recognisers from files: their networks and crops against formulas written out anew."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from restyle.core.errors import CheckpointError
from restyle.core.faces.alignment import FFHQ, Framing
from restyle.core.faces.arcface import CURRICULAR_BOX, load_recogniser
from restyle.core.metrics.measures import MetricSet
from restyle.core.networks.backbones import IRSE50
from tests.restyle_core import plain
from tests.restyle_core.fabricate import IR_SE50, Fabricator, save

WIDTHS = (16, 32, 48, 64)
IR_101 = (3, 13, 30, 3)


def recogniser(kind: str, depths: tuple[int, ...] = (1, 2, 2, 1)) -> plain.State:
    """Published keys: IR-SE50 with an affine last norm, or CurricularFace's IR-101 without."""
    make = Fabricator(11)
    state = make.ir_se50(3, WIDTHS, depths)
    if kind == "curricular":
        state = {key: value for key, value in state.items() if ".res_layer.5." not in key}
    state |= {f"output_layer.0.{k}": v for k, v in make.batch_norm(WIDTHS[-1]).items()}
    area = WIDTHS[-1] * 49
    state["output_layer.3.weight"] = make.normal(512, area, std=1 / math.sqrt(area))
    state["output_layer.3.bias"] = make.normal(512, std=0.1)
    norm = make.batch_norm(512)
    for name in ("weight", "bias") if kind == "curricular" else ():
        del norm[name]
    return state | {f"output_layer.4.{k}": v for k, v in norm.items()}


def embedding(state: plain.State, chips: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(chips, state["input_layer.0.weight"], padding=1)
    x = plain.prelu(
        plain.batch_norm(x, plain.sub(state, "input_layer.1")), state["input_layer.2.weight"]
    )
    before, unit = WIDTHS[0], 0
    while f"body.{unit}.res_layer.1.weight" in state:
        mine = plain.sub(state, f"body.{unit}")
        width = len(mine["res_layer.1.weight"])
        stride = 2 if unit == 0 or width != before else 1
        if "res_layer.5.fc1.weight" in mine:
            x = plain.ir_se_unit(x, mine, stride)
        else:
            shortcut = x[:, :, ::stride, ::stride]
            if "shortcut_layer.0.weight" in mine:
                shortcut = F.conv2d(x, mine["shortcut_layer.0.weight"], stride=stride)
                shortcut = plain.batch_norm(shortcut, plain.sub(mine, "shortcut_layer.1"))
            y = plain.batch_norm(x, plain.sub(mine, "res_layer.0"))
            y = plain.prelu(
                F.conv2d(y, mine["res_layer.1.weight"], padding=1), mine["res_layer.2.weight"]
            )
            y = F.conv2d(y, mine["res_layer.3.weight"], padding=1, stride=stride)
            x = plain.batch_norm(y, plain.sub(mine, "res_layer.4")) + shortcut
        before, unit = width, unit + 1
    x = plain.batch_norm(x, plain.sub(state, "output_layer.0")).flatten(1)
    x = x @ state["output_layer.3.weight"].T + state["output_layer.3.bias"]
    last = plain.sub(state, "output_layer.4")
    x = (x - last["running_mean"]) / (last["running_var"] + 1e-5).sqrt()
    return x * last.get("weight", torch.ones(512)) + last.get("bias", torch.zeros(512))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", ["arcface", "curricular"])
@torch.inference_mode()
def test_embeddings_are_those_of_the_formulas(kind: str, prefix: str, tmp_path: Path) -> None:
    state = recogniser(kind)
    path = save({prefix + key: value for key, value in state.items()}, tmp_path / "face.pth")
    network = load_recogniser(path)
    assert network.name == {"arcface": "IR-SE50", "curricular": "CurricularFace"}[kind]
    chips = torch.rand(2, 3, 112, 112) * 2 - 1
    expected = embedding(state, chips)
    assert expected.std() > 0.3
    torch.testing.assert_close(network(chips), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("kind", "depths"), [("arcface", IR_SE50), ("curricular", IR_101)])
def test_the_published_depths_are_read_from_the_weights(
    kind: str, depths: tuple[int, ...], tmp_path: Path
) -> None:
    network = load_recogniser(save(recogniser(kind, depths), tmp_path / "face.pth"))
    assert network.shape.depths == depths
    assert IRSE50.PUBLISHED_DEPTHS == IR_SE50


@pytest.mark.parametrize("side", [256, 512])
def test_the_crop_of_ir_se50_is_that_of_the_losses(side: int, tmp_path: Path) -> None:
    network = load_recogniser(save(recogniser("arcface"), tmp_path / "face.pth"))
    images = torch.rand(2, 3, side, side) * 2 - 1
    small = plain.pooled(images, 256) if side > 256 else images
    expected = plain.pooled(small[:, :, 35:223, 32:220], 112)
    torch.testing.assert_close(network.chips(images), expected, atol=1e-5, rtol=1e-4)


def ramps(side: int) -> torch.Tensor:
    """An image whose red tells x and whose green tells y, both in units of its sides."""
    at = (torch.arange(side) + 0.5) / side
    x, y = at.expand(side, side), at[:, None].expand(side, side)
    return torch.stack([x, y, torch.zeros(side, side)])[None]


@pytest.mark.parametrize("side", [64, 256, 1024])
def test_the_crop_of_curricularface_puts_the_mean_face_on_its_template(
    side: int, tmp_path: Path
) -> None:
    network = load_recogniser(save(recogniser("curricular"), tmp_path / "face.pth"))
    x, y, _ = network.chips(ramps(side))[0]
    # Eyes and mouth of the FFHQ quad by its definition; ArcFace's template in pixels of 112.
    mouth, eyes = 0.5 + 0.9 / 3.6, 0.5 - 0.1 / 3.6
    for place, (column, row) in {
        (0.375, eyes): (38.29, 51.7),
        (0.625, eyes): (73.53, 51.5),
        (0.5, mouth): (56.14, 92.28),
    }.items():
        found = x[int(row), int(column)].item(), y[int(row), int(column)].item()
        # Two pixels of 112.
        assert math.dist(found, place) < 2 * CURRICULAR_BOX[1] / 112


def test_the_crop_follows_the_framing(tmp_path: Path) -> None:
    network = load_recogniser(save(recogniser("arcface"), tmp_path / "face.pth"))
    framing = Framing(0.8, 0.05)
    x, y, _ = network.chips(ramps(200), framing)[0]
    full_x, full_y, _ = network.chips(ramps(256), FFHQ)[0]
    # Positions in the smaller crop, converted to the FFHQ quad.
    torch.testing.assert_close(0.1 + 0.8 * x[56], full_x[56], atol=2e-3, rtol=0)
    inner = slice(10, 100)
    torch.testing.assert_close(0.15 + 0.8 * y[inner, 56], full_y[inner, 56], atol=2e-3, rtol=0)


@torch.no_grad()
def test_id_similarity_is_measured_by_it(tmp_path: Path) -> None:
    state = recogniser("arcface")
    path = save(state, tmp_path / "face.pth")
    metric = MetricSet(["id_similarity"], framing=FFHQ, identity_weights=path)
    target = torch.rand(2, 3, 256, 256) * 2 - 1
    images = (target + 0.3 * torch.randn_like(target)).clamp(-1, 1)
    ours = metric(images, target)["id_similarity"]
    one, other = (
        embedding(state, plain.pooled(each[:, :, 35:223, 32:220], 112)) for each in (images, target)
    )
    torch.testing.assert_close(ours, F.cosine_similarity(one, other), atol=1e-4, rtol=0)
    embedded = MetricSet(["id_similarity"], framing=FFHQ)(images, target)["id_similarity"]
    assert (ours - embedded).abs().max() > 1e-3


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    state = recogniser("arcface")
    other = {k: v for k, v in state.items() if not k.startswith("output_layer")}
    larger = {**state, "output_layer.3.weight": torch.zeros(512, 64 * 14 * 14)}
    broken = {**state, "body.0.res_layer.1.weight": torch.full((16, 16, 3, 3), torch.nan)}
    for content, said in (
        ({"a": 3}, "holds no weights of a face recogniser"),
        ({"a": torch.zeros(3)}, "holds no IR-SE50 or IR-101"),
        (other, "holds no IR-SE50 or IR-101"),
        (larger, "faces of another size than 112 pixels"),
        (broken, "not finite"),
    ):
        path = save(content, tmp_path / "other.pth")
        load_recogniser.cache_clear()
        with pytest.raises(CheckpointError, match=said) as error:
            load_recogniser(path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_recogniser(tmp_path / "gone.pth")
