"""LPIPS against a version in numpy, float64, written from the paper and AlexNet's table."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from skimage import data

from restyle.core.errors import CheckpointError, FatalError
from restyle.core.metrics.lpips import WEIGHTS, load_lpips

ROOT = Path(__file__).parents[3]


def numpy_convolution(x, weight, bias, stride, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernel = weight.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True) + bias[:, None, None]


def numpy_pool(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return windows[:, :, ::2, ::2].max(axis=(-1, -2))


def numpy_lpips(a, b):
    state = {key: value.astype(np.float64) for key, value in load_file(WEIGHTS).items()}
    stages = []
    for x in (a, b):
        x = x.astype(np.float64)
        x = x - np.array([-0.030, -0.088, -0.188])[:, None, None]
        x = x / np.array([0.458, 0.448, 0.450])[:, None, None]
        maps = []
        for i, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]):
            if i in (1, 2):
                x = numpy_pool(x)
            x = numpy_convolution(
                x, state[f"convs.{i}.weight"], state[f"convs.{i}.bias"], stride, padding
            )
            x = np.maximum(x, 0)
            maps.append(x / (np.sqrt((x**2).sum(axis=1, keepdims=True)) + 1e-10))
        stages.append(maps)
    total = np.zeros(len(a))
    for i, (f, g) in enumerate(zip(*stages, strict=True)):
        weighted = (state[f"channel_weights.{i}"][:, None, None] * (f - g) ** 2).sum(axis=1)
        total += weighted.mean(axis=(1, 2))
    return total


@pytest.fixture(scope="module")
def model():
    return load_lpips()


def photos(height, width, count=3):
    """Crops of a photograph, float32 [count, 3, h, w] in [-1, 1]."""
    photo = data.astronaut().astype(np.float32) / 127.5 - 1
    crops = [photo[70 * i : 70 * i + height, 90 * i : 90 * i + width] for i in range(count)]
    return np.stack(crops).transpose(0, 3, 1, 2).copy()


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (31, 45), (256, 256)])
def test_equals_the_independent_version(model, size):
    a = photos(*size)
    noise = np.random.default_rng(0).normal(0, 0.2, a.shape)
    for b in (np.roll(a, 1, axis=0), (a + noise).astype(np.float32), np.zeros_like(a)):
        ours = model(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        expected = numpy_lpips(a, b)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, atol=1e-5)
        assert expected.min() > 0.02


def test_equal_images_are_at_distance_zero_and_order_does_not_matter(model):
    a = torch.from_numpy(photos(64, 64))
    assert model(a, a).abs().max() == 0
    torch.testing.assert_close(model(a, a.flip(0)), model(a.flip(0), a))


def test_features_have_unit_length_and_serve_several_comparisons(model):
    a = torch.from_numpy(photos(64, 64))
    features = model.features(a)
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 15, 15),
        (192, 7, 7),
        (384, 3, 3),
        (256, 3, 3),
        (256, 3, 3),
    ]
    for f in features:
        lengths = f.norm(dim=1)
        assert ((lengths - 1).abs() < 1e-5).logical_or(lengths == 0).all()
    b = a.flip(0)
    torch.testing.assert_close(model.distance(model.features(b), features), model(b, a))


def test_gradient_reaches_the_image_and_is_finite_at_constant_ones(model):
    target = torch.from_numpy(photos(64, 64))
    for start in (target.roll(1, 0), torch.zeros_like(target), -torch.ones_like(target)):
        image = start.clone().requires_grad_()
        distance = model(image, target)
        (gradient,) = torch.autograd.grad(distance.sum(), image)
        assert gradient.isfinite().all()
        with torch.no_grad():
            step = 0.002 * gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
            stepped = model(image - step, target)
        assert (stepped < distance).all()


def test_low_precision_stays_within_two_percent(model):
    a = torch.from_numpy(photos(64, 64))
    b = a.roll(1, 0)
    exact = model(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(a, b).dtype == torch.float32
        torch.testing.assert_close(model(a, b), exact, rtol=0.02, atol=0)
    converted = load_lpips().to(torch.bfloat16).to(memory_format=torch.channels_last)
    torch.testing.assert_close(converted(a, b), exact, rtol=0.02, atol=0)


def test_too_small_images_are_refused(model):
    with pytest.raises(ValueError, match="31 pixels"):
        model(torch.zeros(1, 3, 30, 64), torch.zeros(1, 3, 30, 64))


def test_bad_weight_files_are_named(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not safetensors")
    for path in (broken, tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError, match=path.name):
            load_lpips(path)


# --- the import recipe ---


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    path = ROOT / "recipes" / "weights" / "import_lpips.py"
    spec = importlib.util.spec_from_file_location("import_lpips", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_unpickler_reads_arrays_and_refuses_code(recipe):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch /tmp/owned",)

    with pytest.raises(FatalError, match="system"):
        recipe.to_state_dict(pickle.dumps(Evil()))


def test_flax_layout_becomes_torch_layout(recipe):
    """A pickle in the package's layout, made from our weights, gives our weights back."""
    state = load_file(WEIGHTS)
    tree = {"AlexNet_0": {}}
    for i in range(5):
        tree["AlexNet_0"][f"Conv_{i}"] = {
            "kernel": state[f"convs.{i}.weight"].transpose(2, 3, 1, 0),
            "bias": state[f"convs.{i}.bias"],
        }
        kernel = state[f"channel_weights.{i}"][None, None, :, None]
        tree[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": kernel}}
    # The file was written by numpy 1, which called this module numpy.core.
    data = pickle.dumps(tree, protocol=3).replace(b"numpy._core", b"numpy.core")
    rebuilt = recipe.to_state_dict(data)
    assert rebuilt.keys() == state.keys()
    for key, value in rebuilt.items():
        np.testing.assert_array_equal(value.numpy(), state[key])


def test_other_archives_are_refused(recipe, tmp_path):
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(b"junk")
    with pytest.raises(FatalError, match="does not hold"):
        recipe.read_member(archive)
