import pytest
import torch

from restyle.core.training.generators.augmentation import AdaptiveAugmentation
from restyle.core.training.processes import Processes


def strong(mirror: bool = False) -> AdaptiveAugmentation:
    augmentation = AdaptiveAugmentation(0.6, 1000, mirror=mirror)
    augmentation.probability.fill_(0.8)
    return augmentation


def test_nothing_happens_at_probability_zero() -> None:
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(AdaptiveAugmentation(0.6, 1000, mirror=False)(images), images)


def test_mirrored_domains_are_flipped_half_of_the_time() -> None:
    torch.manual_seed(0)
    images = torch.randn(200, 3, 4, 4)
    out = AdaptiveAugmentation(0.0, 1000, mirror=True)(images)
    kept = (out == images).flatten(1).all(dim=1)
    flipped = (out == images.flip(3)).flatten(1).all(dim=1)
    assert (kept ^ flipped).all()
    assert 60 < kept.sum() < 140


def test_probability_follows_how_sure_the_discriminator_is() -> None:
    augmentation = AdaptiveAugmentation(0.6, 1000, mirror=False)
    for _ in range(30):
        augmentation.adapt(torch.full((20,), 5.0))
    # 0.25 more of the distance to 1 in each step: above 0.6 from the fourth on, 20/1000 a step.
    assert augmentation.probability.item() == pytest.approx(27 * 0.02, abs=1e-5)
    for _ in range(60):
        augmentation.adapt(torch.full((20,), -5.0))
    assert augmentation.probability.item() == 0


def test_greys_stay_grey_and_places_stay_on_average() -> None:
    torch.manual_seed(1)
    grey = torch.full((64, 3, 8, 8), 0.25)
    out = strong()(grey)
    torch.testing.assert_close(out[:, 0], out[:, 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out[:, 0], out[:, 2], rtol=1e-4, atol=1e-5)
    assert out.std() > 0.05


def test_processes_transform_their_shares_as_one_does_the_whole() -> None:
    images = torch.randn(6, 3, 16, 16)
    torch.manual_seed(4)
    whole = strong(mirror=True)(images)
    parts = []
    for rank in range(2):
        augmentation = AdaptiveAugmentation(0.6, 1000, mirror=True, processes=Processes(rank, 2))
        augmentation.probability.fill_(0.8)
        torch.manual_seed(4)
        parts.append(augmentation(images.chunk(2)[rank]))
    torch.testing.assert_close(torch.cat(parts), whole)


def test_gradients_reach_the_images() -> None:
    torch.manual_seed(2)
    images = torch.randn(8, 3, 16, 16, requires_grad=True)
    strong(mirror=True)(images).square().sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_quarter_turns_and_flips_lose_nothing() -> None:
    # With these alone, the multiset of pixels stays the same.
    torch.manual_seed(3)
    augmentation = strong()
    images = torch.randn(1, 3, 8, 8)
    seen = set()
    for _ in range(400):
        moved = augmentation._move(images, 0.25)
        if torch.allclose(moved.sort(dim=-1).values.sum(), images.sum(), atol=1e-3) and (
            torch.allclose(moved.flatten().sort().values, images.flatten().sort().values, atol=1e-4)
        ):
            for turn in range(4):
                if torch.allclose(moved, images.rot90(turn, (2, 3)), atol=1e-4):
                    seen.add(("turned", turn))
                if torch.allclose(moved, images.flip(3).rot90(turn, (2, 3)), atol=1e-4):
                    seen.add(("mirrored", turn))
    assert {"turned", "mirrored"} == {kind for kind, _ in seen}
    assert {turn for kind, turn in seen if kind == "turned"} == {0, 1, 2, 3}
