"""The refinement loop against a plain second implementation, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from restyle.core import Inversion, Model, invert, load_model, refine
from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import from_eight_bit, preprocess, to_bytes
from restyle.core.inference.inversion import _encoder_input
from tests.restyle_core import plain
from tests.restyle_core.fabricate import IR_SE50, TINY, checkpoint, save


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Smooth random images [count, 3, *size] in [-1, 1]."""
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size, mode="bicubic").clamp(0, 1) * 2 - 1


def loaded(folder: Path, kind: str = "BackboneEncoder", size: int = 32, **options: Any) -> Model:
    path = save(checkpoint(kind, size, **options), folder / f"{kind}-{size}.pt")
    return load_model(path, dtype="fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_input(loaded(tmp_path_factory.mktemp("model")))


def small_input(model: Model) -> Model:
    """The same model with an input of 64x64, which is quicker."""
    model.config = model.config.model_copy(update={"image_size": (64, 64)})
    return model


# --- the published layouts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size", "dataset", "tiny"),
    [
        ("BackboneEncoder", 32, "ffhq_encode", True),
        ("ProgressiveBackboneEncoder", 64, "church_encode", True),
        ("ResNetBackboneEncoder", 32, "horse_encode", True),
        ("ResNetProgressiveBackboneEncoder", 512, "cars_encode", True),
        ("ProgressiveBackboneEncoder", 256, "church_encode", False),
        ("BackboneEncoder", 1024, "ffhq_encode", False),
    ],
    ids=["faces-tiny", "church-tiny", "horse-tiny", "cars-tiny", "church-256", "faces-1024"],
)
def test_five_steps_agree_with_the_plain_implementation(
    kind: str, size: int, dataset: str, tiny: bool, tmp_path: Path
) -> None:
    content = checkpoint(kind, size, dataset=dataset, tiny=tiny)
    state, average = content["state_dict"], content["latent_avg"]
    path = save(content, tmp_path / "published.pt")
    model = load_model(path, dtype="fp32")
    cars = dataset == "cars_encode"
    x = pictures(1, (192, 256) if cars else (256, 256))
    with torch.inference_mode():
        expected = list(
            plain.refine(
                plain.sub(state, "encoder"),
                plain.sub(state, "decoder"),
                average,
                x,
                5,
                kind=kind,
                depths=TINY["depths"] if tiny else IR_SE50,
                rows=slice(64, 448) if cars else slice(None),
            )
        )
    result = invert(model, x, steps=5, reconstructions="all")
    assert result.reconstructions is not None
    height = 384 if cars else size
    assert result.reconstructions.shape == (1, 5, 3, height, size)
    worst = 0.0
    for t, (w, y) in enumerate(expected):
        worst = max(worst, (result.latents[:, t] - w).abs().max().item())
        pooled = model.pool(result.reconstructions[:, t])
        torch.testing.assert_close(pooled, y, atol=1e-3, rtol=1e-3)
        # Agreement would mean little if the steps did nothing or everything had blown up.
        previous = average if t == 0 else expected[t - 1][0][0]
        assert 0.01 < (w[0] - previous).abs().mean() < 2
    print(f"{kind} {size}: max abs difference of latents {worst:.2e}")
    assert worst < 1e-3


def test_the_comparison_notices_a_wrong_style_index(tmp_path: Path) -> None:
    """The plain implementation with two styles exchanged must be far from the right one."""
    content = checkpoint("BackboneEncoder", 32)
    model = loaded(tmp_path)
    x = pictures(1, (256, 256))
    decoder = plain.sub(content["state_dict"], "decoder")
    encoder = plain.sub(content["state_dict"], "encoder")
    order = torch.tensor([0, 1, 2, 4, 3, 5, 6, 7])
    average = content["latent_avg"]
    image = plain.synthesis(decoder, average[None][:, order])
    y = F.adaptive_avg_pool2d(image, (256, 256))
    w = average + plain.encode(encoder, torch.cat((x, y), 1), "BackboneEncoder", TINY["depths"])
    ours = invert(model, x, steps=1).latents[:, 0]
    assert (ours - w).abs().max() > 1e-2


# --- what is kept ------------------------------------------------------------------------------


def test_nothing_is_kept_that_was_not_asked_for(model: Model) -> None:
    x = pictures(3, (64, 64))
    least = invert(model, x, 4, reconstructions="none", latents="last")
    assert least.latents.shape == (3, 1, 8, 32)
    assert least.reconstructions is None
    assert (least.metrics, least.deltas, least.heatmaps) == ({}, None, None)
    with pytest.raises(SpecError, match="kept no images"):
        _ = least.image
    usual = invert(model, x, 4)
    assert usual.latents.shape == (3, 4, 8, 32)
    assert usual.reconstructions is not None
    assert usual.reconstructions.shape == (3, 1, 3, 32, 32)
    everything = invert(model, x, 4, reconstructions="all", deltas=True, heatmaps=True)
    assert everything.reconstructions is not None
    assert everything.reconstructions.shape == (3, 4, 3, 32, 32)
    assert torch.equal(everything.latents, usual.latents)
    assert torch.equal(everything.image, usual.image)
    assert torch.equal(everything.latents[:, -1:], least.latents)


def test_changes_are_those_between_pooled_images(model: Model) -> None:
    result = invert(
        model, pictures(2, (64, 64)), 3, reconstructions="all", deltas=True, heatmaps=True
    )
    assert result.reconstructions is not None
    assert result.heatmaps is not None
    assert result.deltas is not None
    images = [model.average_image.expand(2, -1, -1, -1)]
    images += [model.pool(result.reconstructions[:, t]) for t in range(3)]
    for t in range(3):
        change = (images[t + 1] - images[t]).abs()
        torch.testing.assert_close(result.heatmaps[:, t], change.mean(dim=1))
        torch.testing.assert_close(result.deltas[:, t], change.mean(dim=(1, 2, 3)))


def test_metrics_compare_the_pooled_image_with_the_input(model: Model) -> None:
    x = pictures(3, (64, 64))
    result = invert(model, x, 2, reconstructions="all", metrics=["l2", "psnr"], batch_size=2)
    assert result.reconstructions is not None
    assert list(result.metrics) == ["l2", "psnr"]
    for t in range(2):
        image = model.pool(result.reconstructions[:, t]).clamp(-1, 1)
        error = (image - x).square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(result.metrics["l2"][:, t], error)
        torch.testing.assert_close(result.metrics["psnr"][:, t], 10 * torch.log10(4 / error))


def test_results_are_ordinary_tensors_and_the_mode_does_not_leak(model: Model) -> None:
    x = pictures(1, (64, 64))
    result = invert(model, x, 2)
    result.latents.requires_grad_().sum().backward()
    for step in refine(model, model.preprocess(x), 2):
        assert not torch.is_inference_mode_enabled()
        assert step.latents.shape == (1, 8, 32)


@settings(max_examples=8, deadline=None)
@given(count=st.integers(1, 5), batch_size=st.integers(1, 6))
def test_the_batch_size_changes_nothing(model: Model, count: int, batch_size: int) -> None:
    x = pictures(count, (64, 64))
    one = invert(model, x, 2, deltas=True)
    other = invert(model, x, 2, deltas=True, batch_size=batch_size)
    torch.testing.assert_close(one.latents, other.latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.image, other.image, atol=1e-4, rtol=1e-4)
    assert one.deltas is not None
    assert other.deltas is not None
    torch.testing.assert_close(one.deltas, other.deltas, atol=1e-4, rtol=1e-4)


def test_an_image_stops_once_it_changes_less_than_the_tolerance(model: Model) -> None:
    x = pictures(6, (64, 64))
    options: dict[str, Any] = {"metrics": ["l2"], "deltas": True, "heatmaps": True}
    full = invert(model, x, 6, reconstructions="all", **options)
    assert full.deltas is not None
    assert full.steps.tolist() == [6] * 6
    # In the middle of what occurs, so that images stop at different steps, and some never.
    tolerance = float(full.deltas[:, :-1].amin(dim=1).median()) * 1.001
    below = full.deltas < tolerance
    taken = [int(row.nonzero()[0, 0]) + 1 if row.any() else 6 for row in below]
    assert len(set(taken)) > 1

    result = invert(
        model, x, 6, reconstructions="all", tolerance=tolerance, batch_size=4, **options
    )
    assert result.steps.tolist() == taken
    for image, last in enumerate(taken):
        # Steps that were not taken hold what was before, and no change.
        chosen = [min(step, last - 1) for step in range(6)]
        for ours, theirs in (
            (result.latents, full.latents),
            (result.reconstructions, full.reconstructions),
            (result.metrics["l2"], full.metrics["l2"]),
        ):
            assert ours is not None
            assert theirs is not None
            torch.testing.assert_close(ours[image], theirs[image, chosen], atol=1e-4, rtol=1e-4)
        for mine, whole in ((result.deltas, full.deltas), (result.heatmaps, full.heatmaps)):
            assert mine is not None
            assert whole is not None
            torch.testing.assert_close(mine[image, :last], whole[image, :last], atol=1e-4, rtol=0.0)
            assert not mine[image, last:].any()

    least = invert(model, x, 6, latents="last", tolerance=tolerance)
    assert least.steps.tolist() == taken
    torch.testing.assert_close(least.latents, result.latents[:, -1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(least.image, result.image, atol=1e-4, rtol=1e-4)


def test_steps_that_nobody_needs_are_not_computed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    encode = model.encode

    def counted(x: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        batches.append(len(x))
        return encode(x, current)

    monkeypatch.setattr(model, "encode", counted)
    result = invert(model, pictures(3, (64, 64)), 9, deltas=True, tolerance=2.0)
    assert batches == [3]
    assert result.steps.tolist() == [1, 1, 1]
    assert result.latents.shape == (3, 9, 8, 32)
    assert result.deltas is not None
    assert result.deltas.shape == (3, 9)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_an_impossible_tolerance_is_refused(model: Model, tolerance: float) -> None:
    with pytest.raises(SpecError, match="tolerance"):
        invert(model, pictures(1, (64, 64)), 2, tolerance=tolerance)


def test_eight_bit_images_and_floats_give_the_same(model: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    one, other = invert(model, pixels, 1), invert(model, floats, 1)
    torch.testing.assert_close(one.latents, other.latents, atol=1e-5, rtol=1e-4)


# --- starts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["last", "all"])
def test_images_in_eight_bits_are_those_that_are_saved(model: Model, kept: Any) -> None:
    x = pictures(3, (64, 64))
    exact = invert(model, x, 2, reconstructions=kept, batch_size=2).reconstructions
    saved = invert(model, x, 2, reconstructions=kept, batch_size=2, eight_bit=True).reconstructions
    assert exact is not None
    assert saved is not None
    assert saved.dtype == torch.uint8
    grey = (exact.clamp(-1, 1) + 1) * 127.5
    assert (saved - grey).abs().max() <= 0.501


def test_going_on_equals_never_having_stopped(model: Model) -> None:
    x = pictures(3, (64, 64))
    whole = invert(model, x, 5, reconstructions="all")
    first = invert(model, x, 2)
    rest = invert(model, x, 3, start=first, reconstructions="all", batch_size=2)
    torch.testing.assert_close(rest.latents, whole.latents[:, 2:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rest.image, whole.image, atol=1e-4, rtol=1e-4)


def test_bootstrapping_starts_from_the_other_models_latent_and_image(tmp_path: Path) -> None:
    photo = small_input(loaded(tmp_path, seed=0))
    toon = small_input(loaded(tmp_path, seed=1))
    x = pictures(2, (64, 64))
    first = invert(photo, x, 1, reconstructions="all")
    rest = invert(toon, x, 3, start=first, reconstructions="all")
    assert first.reconstructions is not None
    assert rest.reconstructions is not None
    images = torch.cat([first.reconstructions, rest.reconstructions], dim=1)
    assert images.shape == (2, 4, 3, 32, 32)

    toon.latent_avg = torch.full_like(toon.latent_avg, torch.nan)  # must not be looked at
    w, y = first.latents[:, 0], photo.pool(first.image)
    with torch.inference_mode():
        for t in range(3):
            w = toon.encode(x, y) + w
            y = toon.pool(toon.synthesize(w))
            torch.testing.assert_close(rest.latents[:, t], w, atol=1e-5, rtol=1e-4)
    again = invert(toon, x, 3, start=next(refine(photo, x, 1)))
    torch.testing.assert_close(again.latents, rest.latents, atol=1e-5, rtol=1e-4)


def test_a_single_pass_encoder_is_one_step_of_the_same_loop(tmp_path: Path) -> None:
    content = checkpoint("GradualStyleEncoder", 32, in_channels=3)
    model = small_input(load_model(save(content, tmp_path / "psp.pt"), dtype="fp32"))
    assert not model.iterative
    x = pictures(2, (64, 64))
    result = invert(model, x, steps=1)
    encoder = plain.sub(content["state_dict"], "encoder")
    with torch.inference_mode():
        expected = plain.encode(encoder, x, "GradualStyleEncoder", TINY["depths"])
    torch.testing.assert_close(
        result.latents[:, 0], expected + content["latent_avg"], atol=1e-5, rtol=1e-4
    )
    with pytest.raises(SpecError, match="single pass"):
        invert(model, x, steps=2)
    with pytest.raises(SpecError, match="single pass"):
        invert(model, x, steps=1, start=result)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batches of 0"),
        ({"reconstructions": "some"}, "reconstructions='some'"),
        ({"latents": "none"}, "latents='none'"),
        ({"start": Inversion(torch.zeros(3, 1, 8, 32))}, "kept no images"),
        ({"start": Inversion(torch.zeros(3, 1, 8, 32), torch.zeros(3, 1, 3, 8, 8))}, "holds 3"),
        ({"start": Inversion(torch.zeros(2, 1, 9, 32), torch.zeros(2, 1, 3, 8, 8))}, "B, 8, 32"),
        ({"metrics": ["beauty"]}, "beauty"),
    ],
)
def test_contradictions_are_one_line(model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        invert(model, pictures(2, (64, 64)), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("images", [torch.zeros(0, 3, 64, 64), torch.tensor(1.0), object()])
def test_what_is_no_batch_of_images_is_refused(model: Model, images: Any) -> None:
    with pytest.raises(SpecError, match="images"):
        invert(model, images)


def test_bf16_stays_close_to_float32(tmp_path: Path, model: Model) -> None:
    path = save(checkpoint("BackboneEncoder", 32), tmp_path / "again.pt")
    rounded = small_input(load_model(path, dtype="bf16"))
    x = pictures(2, (64, 64))
    exact, close = invert(model, x, 3).latents, invert(rounded, x, 3).latents
    moved = (exact[:, -1] - model.latent_avg).abs().mean()
    assert (exact - close).abs().mean() < 0.05 * moved


def test_bytes_go_to_a_gpu_as_they_are_and_become_the_same_there() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(12).reshape(2, 16, 32, 3)
    expected = preprocess(pixels, (16, 32))
    ours = from_eight_bit(pixels)
    assert torch.equal(ours, expected)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_bytes(ours).permute(0, 2, 3, 1), pixels)

    sent: list[torch.Tensor] = []

    def upload(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        sent.append(tensor)
        return lambda: tensor

    def model(device: str) -> Any:
        config = SimpleNamespace(image_size=(16, 32))
        transfer = SimpleNamespace(upload=upload)
        return SimpleNamespace(device=torch.device(device), config=config, transfer=transfer)

    for device, images, dtype in (
        ("cuda", pixels, torch.uint8),
        ("cuda", pixels.numpy(), torch.uint8),
        ("cpu", pixels, torch.float32),
        ("cuda", expected, torch.float32),
    ):
        assert torch.equal(_encoder_input(model(device), images), expected)
        assert sent.pop().dtype == dtype
    # Of another size they are resized before.
    assert _encoder_input(model("cuda"), pixels[:, :8]).shape == (2, 3, 16, 32)
    assert sent.pop().dtype == torch.float32
