from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restyle.core.errors import SpecError
from restyle.core.training.crops import CropSet, batch_indices


@given(length=st.integers(1, 40), batch=st.integers(1, 60), seed=st.integers(0, 5))
def test_every_epoch_sees_every_image_once(length: int, batch: int, seed: int) -> None:
    steps = -(-3 * length // batch)
    order = torch.cat([batch_indices(length, batch, step, seed) for step in range(steps)])
    for epoch in order[: 3 * length].view(3, length):
        assert epoch.sort().values.tolist() == list(range(length))


def test_batches_follow_from_the_step_alone() -> None:
    later = batch_indices(100, 16, 9, seed=3)
    assert torch.equal(later, batch_indices(100, 16, 9, seed=3))
    assert not torch.equal(later, batch_indices(100, 16, 9, seed=4))


def test_pixels_become_minus_one_to_one(tmp_path: Path) -> None:
    images = np.array([0, 51, 255], np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    crops = CropSet.load([tmp_path / "a.npz", tmp_path / "a.npz"])
    assert len(crops) == 6
    assert crops.z.shape == (6, 0)
    values = crops.batch(torch.arange(3))[:, 0, 0, 0]
    torch.testing.assert_close(values, torch.tensor([-1.0, -0.6, 1.0]))


def test_files_that_disagree_about_z_are_refused(tmp_path: Path) -> None:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    np.savez(tmp_path / "b.npz", images=images, z=np.zeros((1, 3), np.float32))
    with pytest.raises(SpecError, match="carry z"):
        CropSet.load([tmp_path / "a.npz", tmp_path / "b.npz"])


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", images=np.array([print], dtype=object))
    with pytest.raises(SpecError, match=r"evil\.npz is no file of training crops"):
        CropSet.load([tmp_path / "evil.npz"])
