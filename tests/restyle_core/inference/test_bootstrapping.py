"""Two models, one after the other, against the loop written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from restyle.core import Model, load_model, refine
from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import to_bytes
from restyle.core.inference.bootstrapping import check_compatible, invert_bootstrapped
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def photo(tiny_model: Path) -> Model:
    return load_model(tiny_model, dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def toon(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "toon", seed=1)
    return load_model(folder, dtype="fp32", device="cpu")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 64, 64).mul(2).sub(1)


def test_the_first_step_is_the_photo_models_and_the_rest_the_others(
    photo: Model, toon: Model, images: Tensor
) -> None:
    result = invert_bootstrapped(
        photo, toon, images, 4, reconstructions="all", metrics=["l2"], deltas=True, heatmaps=True
    )
    (first,) = refine(photo, images, 1)
    steps = [first, *refine(toon, images, 3, start=first)]
    torch.testing.assert_close(result.latents, torch.stack([step.latents for step in steps], 1))
    pictures = torch.stack([step.image for step in steps], 1)
    torch.testing.assert_close(result.reconstructions, pictures)
    errors = [(step.pooled.clamp(-1, 1) - images).square().mean(dim=(1, 2, 3)) for step in steps]
    torch.testing.assert_close(result.metrics["l2"], torch.stack(errors, 1))
    changes = torch.stack([step.change() for step in steps], 1)
    torch.testing.assert_close(result.heatmaps, changes)
    torch.testing.assert_close(result.deltas, changes.mean(dim=(2, 3)))
    # The second model does not begin from its own average.
    alone = next(iter(refine(toon, images, 1)))
    assert (result.latents[:, 1] - alone.latents).abs().max() > 0.01


def test_only_what_was_asked_for_is_kept(photo: Model, toon: Model, images: Tensor) -> None:
    everything = invert_bootstrapped(photo, toon, images, 3, reconstructions="all")
    last = invert_bootstrapped(photo, toon, images, 3, latents="last", batch_size=2)
    assert last.latents.shape[1] == 1
    torch.testing.assert_close(last.latents[:, 0], everything.latents[:, -1])
    torch.testing.assert_close(last.image, everything.image)
    assert last.deltas is None
    nothing = invert_bootstrapped(photo, toon, images, 3, reconstructions="none")
    assert nothing.reconstructions is None
    saved = invert_bootstrapped(photo, toon, images, 3, reconstructions="all", eight_bit=True)
    assert everything.reconstructions is not None
    torch.testing.assert_close(saved.reconstructions, to_bytes(everything.reconstructions))


def test_models_that_do_not_go_together_are_refused(photo: Model, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="latents are 10 x 512, the other's 10 x 32"):
        check_compatible(photo, load_model("faces64", device="cpu"))
    single = load_model(f"{make_tiny_model(tmp_path / 'tiny')}:single-pass-psp", device="cpu")
    with pytest.raises(SpecError, match="single pass"):
        check_compatible(photo, single)
    check_compatible(single, photo)
    with pytest.raises(SpecError, match="one more is needed"):
        invert_bootstrapped(photo, photo, torch.zeros(1, 3, 64, 64), 1)
