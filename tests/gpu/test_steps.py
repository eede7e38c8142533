"""Refinement on the device: latents against the CPU's, recordings, memory, streams."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core import invert, load_model
from restyle.core.inference.results import Inversion


def pictures(count: int) -> Tensor:
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(small, (256, 256), mode="bilinear").contiguous()


@pytest.fixture(scope="module")
def exact(faces1024: Path) -> Inversion:
    """Two pictures in float32 on the CPU."""
    return invert(load_model(faces1024, dtype="fp32", device="cpu"), pictures(2), steps=5)


@pytest.mark.parametrize(("dtype", "limit"), [("fp32", 1e-4), ("tf32", 3e-3), ("bf16", 3e-2)])
def test_latents_are_the_cpu_s(dtype: str, limit: float, faces1024: Path, exact: Inversion) -> None:
    model = load_model(faces1024, dtype=dtype, device="cuda", impl="native")
    ours = invert(model, pictures(2), steps=5)
    difference = (ours.latents - exact.latents).norm() / exact.latents.norm()
    assert difference < limit
    # Steps from the second on were recorded and replayed.
    assert model.graph_problem == ""


def test_recordings_change_nothing(faces1024: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(7)
    model = load_model(faces1024, dtype="bf16", device="cuda")
    # The last three are filled up to four.
    replayed = invert(model, images, steps=3, batch_size=4, reconstructions="last")
    assert model.graph_problem == ""
    monkeypatch.setenv("RESTYLE_CUDA_GRAPHS", "off")
    plain = load_model(faces1024, dtype="bf16", device="cuda")
    assert plain.graph_problem == "switched off"
    once = invert(plain, images, steps=3, batch_size=4, reconstructions="last")
    # Other algorithms of cuDNN round differently.
    assert (replayed.latents - once.latents).norm() < 2e-2 * once.latents.norm()
    assert (replayed.image - once.image).abs().mean() < 2e-2


def test_a_batch_that_does_not_fit_ends_in_an_error_that_can_be_caught(faces1024: Path) -> None:
    model = load_model(faces1024, dtype="fp32", device="cuda")
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(1, free - (1 << 30)), dtype=torch.uint8, device="cuda")
    try:
        with pytest.raises(torch.OutOfMemoryError):
            invert(model, pictures(32), steps=1, batch_size=32)
    finally:
        del held
        torch.cuda.empty_cache()
    assert invert(model, pictures(1), steps=2).latents.isfinite().all()


def test_two_streams_do_not_meet(faces1024: Path) -> None:
    model = load_model(faces1024, dtype="bf16", device="cuda")
    latents = model.latent_avg[None].expand(2, -1, -1).contiguous()
    with torch.inference_mode():
        expected = model.synthesize(latents)
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in range(2)]  # type: ignore[no-untyped-call]
        made = []
        for _ in range(5):
            for stream in streams:
                with torch.cuda.stream(stream):
                    made.append(model.synthesize(latents))
        torch.cuda.synchronize()
    for image in made:
        torch.testing.assert_close(image, expected, atol=1e-2, rtol=1e-2)


def test_peak_memory_of_a_large_batch(faces1024: Path) -> None:
    model = load_model(faces1024, dtype="bf16", device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    invert(model, pictures(32), steps=3, batch_size=32, latents="last", eight_bit=True)
    assert torch.cuda.max_memory_allocated() - before < 32 * model.footprint.bytes
