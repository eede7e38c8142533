"""Training on images alone: the penalties against their definitions, and whole runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.networks.generator import Generator, GeneratorConfig
from restyle.core.training.generators.distillation import load_trained_generator
from restyle.core.training.generators.spec import GeneratorSpec
from restyle.core.training.generators.stylegan import PathLength, StyleGanTrainer, gradient_penalty
from restyle.core.training.processes import Processes
from tests.restyle_core.training.runs import log_of, train_with_two_processes


def spec(images: Path, length: int, **changes: object) -> GeneratorSpec:
    values = {
        "name": "toy",
        "crops": [images],
        "schedule": {
            "images": length,
            "batch": 4,
            "dtype": "fp32",
            "checkpoint_every": 8,
            "sample_every": 10_000,
            "log_every": 8,
        },
        "generator": {"widths": [8] * 4, "style_dim": 16, "z_dim": 8, "mapping_layers": 2},
        "gan": {"r1_every": 2, "path_every": 2, "augment_images": 64},
        "optimizer": {"lr": 2e-3, "decay_from": 1.0, "ema_half_life": 8},
    }
    return GeneratorSpec.model_validate(values | changes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of several sizes in a folder: reddish discs on a dark ground."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    (folder / "more").mkdir()
    (folder / "notes.txt").write_text("not an image")
    for index in range(24):
        height, width = random.integers(40, 60, 2)
        y, x = np.mgrid[:height, :width]
        inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < random.integers(8, 16) ** 2
        pixels = np.where(inside[..., None], (220, 60, 40), (20, 20, 30)).astype(np.uint8)
        place = folder if index % 2 else folder / "more"
        Image.fromarray(pixels).save(place / f"{index}.png")
    return folder


def test_r1_is_half_the_squared_gradient() -> None:
    images = torch.randn(3, 3, 4, 4, requires_grad=True)
    weight = torch.randn(3, 4, 4)
    penalty = gradient_penalty((images * weight).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, 0.5 * weight.square().sum())


def test_path_length_of_a_linear_generator() -> None:
    torch.manual_seed(0)
    rows = torch.linalg.qr(torch.randn(12, 5))[0].t()
    latents = torch.randn(2000, 1, 5, requires_grad=True)
    images = (3 * latents[:, 0] @ rows).view(2000, 3, 2, 2)
    regulariser = PathLength()
    regulariser(images, latents)
    # y / sqrt(h w) has variance 1/4; its image under 3 x an orthogonal map has length
    # 1.5 x that of five normal numbers: on average 1.5 x 2.1277.
    assert regulariser.mean.item() == pytest.approx(0.01 * 1.5 * 2.1277, rel=0.02)


def test_path_length_passes_a_second_gradient_through_the_generator() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig((8, 8, 8), 16, 8, 1))
    latents = torch.randn(2, generator.config.n_styles, 16, requires_grad=True)
    PathLength()(generator.synthesis(latents), latents).backward()
    gradient = generator.convs[0].conv.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_a_folder_of_images_is_learned(images: Path, tmp_path: Path) -> None:
    StyleGanTrainer(
        spec(images, 480, gan={"augment": 0.0, "r1_every": 2}, optimizer={"lr": 1e-2}),
        tmp_path,
    ).run(lambda _: None)
    generator = load_trained_generator(tmp_path)[0]
    with torch.inference_mode():
        made = generator(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
    middle, corner = made[:, :, 14:18, 14:18].mean(dim=(0, 2, 3)), made[:, :, :3, :3].mean()
    red, green, blue = middle.tolist()
    assert red > max(green, blue) + 0.3
    assert red > corner + 0.5
    log = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    named = {key for line in log for key in line}
    assert {"discriminator", "generator", "r1", "path_length", "augmentation"} <= named


def test_a_resumed_run_equals_an_uninterrupted_one(images: Path, tmp_path: Path) -> None:
    for folder, lengths in (("whole", (48,)), ("parts", (16, 48))):
        for length in lengths:
            StyleGanTrainer(spec(images, length), tmp_path / folder).run(lambda _: None)
    whole, parts = (
        torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)
        for folder in ("whole", "parts")
    )
    assert whole["augmentation"]["sureness"] != 0
    for part in ("generator", "average", "discriminator", "augmentation", "path_length"):
        for key, value in whole[part].items():
            torch.testing.assert_close(value, parts[part][key], rtol=0, atol=1e-6, msg=key)


def test_two_processes_equal_one(images: Path, tmp_path: Path) -> None:
    """With both penalties, and groups of images that stay together."""
    gan = {"r1_every": 2, "path_every": 2}
    schedule = {"images": 32, "batch": 8, "dtype": "fp32", "log_every": 8, "threads": 1}
    wanted = spec(images, 32, gan=gan, schedule=schedule)
    threads = torch.get_num_threads()
    StyleGanTrainer(wanted, tmp_path / "one").run(lambda _: None)
    torch.set_num_threads(threads)
    train_with_two_processes("generator", wanted, tmp_path / "two")
    ours, theirs = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [line["images"] for line in theirs] == [8, 16, 24, 32]
    for expected, found in zip(ours, theirs, strict=True):
        assert found == pytest.approx(expected, abs=2e-5)
    one, two = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("one", "two")
    )
    assert one["augmentation"]["sureness"] != 0
    for part in ("average", "augmentation", "path_length"):
        for key, value in one[part].items():
            torch.testing.assert_close(value, two[part][key], rtol=1e-3, atol=2e-4, msg=key)


def test_processes_that_cannot_share_a_batch_are_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "join", lambda: Processes(0, 2))
    with pytest.raises(SpecError, match="2 processes cannot share 1 groups of images evenly"):
        StyleGanTrainer(spec(images, 8), tmp_path)


def test_a_neighbouring_domain_starts_from_its_parent(images: Path, tmp_path: Path) -> None:
    StyleGanTrainer(spec(images, 4), tmp_path / "parent").run(lambda _: None)
    child = spec(
        images, 8, generator=None, parent=str(tmp_path / "parent"), keep_mapping=True, name="child"
    )
    StyleGanTrainer(child, tmp_path / "child").run(lambda _: None)
    parent, trained = (load_trained_generator(tmp_path / run)[0] for run in ("parent", "child"))
    z = torch.randn(4, 8)
    assert torch.equal(parent.mapping(z), trained.mapping(z))
    assert not torch.equal(parent(z), trained(z))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan": {"widths": [8, 8]}}, "gan.widths must be 4"),
        ({"generator": {"widths": [8] * 5, "style_dim": 16, "z_dim": 8}}, "64"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    np.savez(tmp_path / "crops.npz", images=np.zeros((8, 32, 32, 3), np.uint8))
    with pytest.raises(SpecError, match=message) as caught:
        StyleGanTrainer(spec(tmp_path / "crops.npz", 8, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
