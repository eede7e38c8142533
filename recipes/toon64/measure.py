"""Measure ``toon64`` on crops that no training saw, against their cartoons, and show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from recipes.toon64.pairs import draw, drawn_latents, render
from restyle.core.inference.bootstrapping import invert_bootstrapped
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model, load_model
from restyle.core.metrics.lpips import load_lpips
from restyle.core.training.crops import CropSet

_BATCH = 50


@torch.inference_mode()
def distances(images: Tensor, targets: Tensor) -> tuple[float, float]:
    """Mean squared error and LPIPS between [N, 3, S, S] in [-1, 1]."""
    lpips = load_lpips()
    of_images, of_targets = lpips.features(images), lpips.features(targets)
    return float((images - targets).square().mean()), float(
        lpips.distance(of_images, of_targets).mean()
    )


@torch.inference_mode()
def rendered(model: Model, latents: Tensor) -> Tensor:
    """Pictures [N, 3, S, S] in [-1, 1]."""
    return torch.cat([model.synthesize(part) for part in torch.split(latents, _BATCH)]).clamp(-1, 1)


def of_samples(faces: Model, toon: Model, count: int) -> tuple[float, float]:
    """How far the cartoon's generator is from the rule, on fresh z: l2 and LPIPS."""
    latents = drawn_latents(faces, count, seed=1_000)
    drawings = np.stack([draw(picture) for picture in render(faces, latents)])
    targets = torch.from_numpy(drawings).permute(0, 3, 1, 2).float() / 127.5 - 1
    return distances(rendered(toon, latents), targets)


def main(
    pairs: Path = typer.Argument(help="Held-out crops and their cartoons, of pairs.py."),
    model: str = typer.Option("toon64"),
    images: int = typer.Option(200),
    grid: Path | None = typer.Option(None, help="A picture to write."),
) -> None:
    """Compare what photographs become with their cartoons, drawn by rule."""
    toon, faces = load_model(model, device="cpu"), load_model("faces64", device="cpu")
    held = CropSet.load([pairs])
    indices = torch.arange(min(images, len(held)))
    photos, targets = held.batch(indices), held.target_batch(indices)
    pixels = held.images[indices].permute(0, 2, 3, 1)

    def report(name: str, made: Tensor) -> None:
        l2, lpips = distances(made, targets)
        print(f"{name}: l2 {l2:.4f}, lpips {lpips:.4f}")

    def inverted(by: Model, steps: int) -> Tensor:
        result = invert(
            by, pixels, steps=steps, reconstructions="none", latents="last", batch_size=_BATCH
        )
        return result.latents[:, 0]

    l2, lpips = of_samples(faces, toon, len(indices))
    print(f"samples against the drawings of faces64's: l2 {l2:.4f}, lpips {lpips:.4f}")
    report("the photographs themselves", photos)
    swapped = rendered(toon, inverted(faces, 5))
    report("latents of faces64 in the cartoon's generator", swapped)
    for steps in (1, 3, 5):
        made = rendered(toon, inverted(toon, steps))
        report(f"ReStyle, {steps} steps", made)
    latents = invert_bootstrapped(
        faces, toon, pixels, 6, reconstructions="none", latents="last", batch_size=_BATCH
    ).latents
    bootstrapped = rendered(toon, latents[:, 0])
    report("toonify, 6 steps", bootstrapped)
    if grid is not None:
        rows = torch.cat([each[:12] for each in (photos, targets, swapped, made, bootstrapped)])
        pictures = ((rows + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        lines = [np.concatenate(list(pictures[row : row + 12]), 1) for row in range(0, 60, 12)]
        Image.fromarray(np.concatenate(lines)).save(grid)


if __name__ == "__main__":
    typer.run(main)
