"""Batches that fit; what an image takes is compared with what is alive in test_on_cuda.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restyle.core.inference import batch_size as sizes_module
from restyle.core.inference import model as module
from restyle.core.inference.batch_size import Footprint, cpu_batch, gpu_batch, gradient_batch
from restyle.core.inference.model import load_model
from restyle.core.networks.generator import GeneratorConfig

GIGABYTE = 1 << 30


@pytest.mark.parametrize(("side", "images"), [(64, 32), (256, 32), (512, 16), (1024, 4), (4096, 1)])
def test_on_a_cpu_the_size_of_the_images_decides(side: int, images: int) -> None:
    assert cpu_batch(side) == images


@pytest.mark.parametrize(("side", "images"), [(64, 4), (256, 1), (1024, 1)])
def test_on_a_cpu_latents_are_optimised_in_groups_of_one_size(side: int, images: int) -> None:
    shape = GeneratorConfig.published(side)
    assert gradient_batch(shape, torch.device("cpu")) == images


@pytest.mark.parametrize(("free", "images"), [(0, 1), (16, 1), (80, 6), (2000, 128)])
def test_on_a_gpu_a_gradient_takes_a_part_of_the_free_memory(
    free: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of a megapixel takes five gigabytes."""
    monkeypatch.setattr(sizes_module, "free_memory", lambda _: free * GIGABYTE)
    assert gradient_batch(GeneratorConfig.published(1024), torch.device("cuda")) == images


def test_on_a_gpu_memory_does_until_it_is_busy() -> None:
    each = GIGABYTE // 4
    faces = GeneratorConfig.published(1024)
    sizes = [gpu_batch(faces, each, free * GIGABYTE) for free in (0, 1, 8, 16, 80, 800)]
    # Never none, never more than helps, and at most 0.4 of what is free.
    assert sizes == [1, 1, 12, 25, 32, 32]
    small = GeneratorConfig((64, 64, 64, 64, 64))
    assert gpu_batch(small, 1 << 24, 80 * GIGABYTE) == 128


@pytest.mark.parametrize(
    ("side", "times", "batch"), [(256, 1, 128), (256, 4, 61), (512, 1, 125), (1024, 2, 31)]
)
def test_on_a_gpu_no_tensor_has_more_values_than_cudnn_counts(
    side: int, times: int, batch: int
) -> None:
    shape = GeneratorConfig(tuple(times * w for w in GeneratorConfig.published(side).widths))
    assert gpu_batch(shape, 1, 1 << 40) == batch
    # What a transposed convolution makes of so many images.
    assert batch * max(w * ((4 << i) + 5) ** 2 for i, w in enumerate(shape.widths)) < 2**31


def test_an_image_takes_more_with_plain_operators_and_in_float32() -> None:
    shape = GeneratorConfig.published(1024)
    ways = [
        Footprint(shape, (256, 256), torch.bfloat16),
        Footprint(shape, (256, 256), torch.float32),
        Footprint(shape, (256, 256), torch.bfloat16, plain=True),
    ]
    bf16, fp32, plain = (way.bytes for way in ways)
    # Activations of 1024x1024x32, at least four of them.
    assert 4 * 2 * 32 << 20 < bf16 < fp32 < plain


def test_a_model_says_how_many(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    assert model.batch_size == 32
    monkeypatch.setattr(module, "free_memory", lambda _: 10 * model.footprint.bytes)
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    model.device = torch.device("cuda:0")
    assert model.batch_size == 4
