"""One step of the optimisation of a latent, against the same in plain PyTorch operators.

Run ``python -m tests.bench.bench_optimization``. The model has random weights in the published
faces 1024 shape. A step is the image, the loss and the loss's gradient with regard to the latent,
in float32 on a CPU; the plain one modulates weights for each sample and convolves in groups, as
published implementations do. Both take turns, so that a busy machine slows both; the ratio is the
median over the pairs. Latents' gradients must agree. Exit code 1 if it is below WANTED.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from restyle.core.bench.grouped import GroupedReference
from restyle.core.bench.random_model import write_random_model
from restyle.core.checkpoints.directory import read_model
from restyle.core.inference.model import Model, load_model
from restyle.core.inference.optimization import LPIPS_WEIGHT, Loss, perceptual_network

WANTED = 2.0
PAIRS = 5


def fast_step(model: Model, x: Tensor) -> Callable[[Tensor], Tensor]:
    loss = Loss(model, x)

    def step(w: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(loss(w).sum(), w)
        return gradient

    return step


def plain_step(reference: GroupedReference, x: Tensor) -> Callable[[Tensor], Tensor]:
    network = perceptual_network(x.device)
    features = network.features(x)

    def step(w: Tensor) -> Tensor:
        image = reference.pool(reference.synthesize(w))
        distance = network.distance(network.features(image), features)
        loss = (image - x).square().mean(dim=(1, 2, 3)) + LPIPS_WEIGHT * distance
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        return gradient

    return step


def seconds(step: Callable[[Tensor], Tensor], w: Tensor) -> tuple[float, Tensor]:
    started = time.perf_counter()
    gradient = step(w)
    return time.perf_counter() - started, gradient


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_model("faces1024", Path(folder) / "model")
        config, weights = read_model(path, None)
        model = load_model(path, dtype="fp32", device="cpu")
        reference = GroupedReference(config, weights.generator, model.encoder)
    source = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, *config.image_size, generator=source) * 2 - 1
    w = model.latent_avg[None] + 0.1 * torch.randn(1, *model.latent_avg.shape, generator=source)
    w.requires_grad_(True)
    steps = fast_step(model, x), plain_step(reference, x)
    (_, ours), (_, theirs) = (seconds(step, w) for step in steps)
    error = float((ours - theirs).norm() / theirs.norm())
    print(f"{torch.get_num_threads()} threads, {model.kernels}; gradients differ by {error:.1e}")
    pairs = [tuple(seconds(step, w)[0] for step in steps) for _ in range(PAIRS)]
    ratios = [plain / fast for fast, plain in pairs]
    for name, column in zip(("here", "plain"), zip(*pairs, strict=True), strict=True):
        shown = f"{min(column):.2f} to {max(column):.2f}"
        print(f"{name}: {statistics.median(column):.2f} s a step ({shown})")
    ratio = statistics.median(ratios)
    print(f"{ratio:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
    sys.exit(int(ratio < WANTED or error > 1e-3))


if __name__ == "__main__":
    main()
