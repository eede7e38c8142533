"""Measure the embedded models: how good the generator's faces are, how well encoders invert."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from recipes.faces64.teacher import FRAMING, PHOTO_SIZE
from restyle.core.devices import hardware
from restyle.core.faces.alignment import find_landmarks
from restyle.core.imaging.preprocessing import to_bytes
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.core.metrics.bootstrap import Interval, Rows, over_images
from restyle.core.metrics.features import Features, embeddings, pooled_features
from restyle.core.metrics.frechet import frechet_distance
from restyle.core.metrics.measures import METRICS
from restyle.core.networks.generator import Generator
from restyle.core.training.crops import CropSet
from restyle.core.training.encoders.trainer import delta_norm
from restyle.core.training.generators.distillation import load_trained_generator

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
_BATCH = 50

Floats = npt.NDArray[np.float64]


def _finds_face(pixels: np.ndarray) -> bool:
    photo = Image.fromarray(pixels).resize((PHOTO_SIZE, PHOTO_SIZE), Image.Resampling.BICUBIC)
    return bool(find_landmarks(photo))


def faces_found(images: Tensor, processes: int = 2) -> np.ndarray:
    """In which of the images [N, 3, S, S] in [-1, 1] dlib finds a face at 256 pixels: bool [N]."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return np.array(pool.map(_finds_face, list(pixels.numpy()), chunksize=50))


@torch.inference_mode()
def sample(generator: Generator, count: int, psi: float, seed: int = 7) -> Tensor:
    """Images [count, 3, S, S] of fresh z."""
    source = torch.Generator().manual_seed(seed)
    mean = generator.mean_latent()
    z = torch.randn(count, generator.config.z_dim, generator=source)
    return torch.cat([generator(part, psi, mean).clamp(-1, 1) for part in torch.split(z, _BATCH)])


@app.command("generator")
def measure_generator(
    path: Path = typer.Argument(help="A training run or an embedded model's directory."),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    crops: Path = typer.Option(help="Training crops, for the real-against-real distance."),
    samples: int = 2_000,
    quick: bool = typer.Option(False, help="Only the Frechet distances at psi 1."),
) -> None:
    """Share of samples with a face, and Frechet distances to held-out crops.

    Of face embeddings, and of LPIPS's features (times a thousand, as they are small); as many
    samples as there are held-out crops.
    """
    generator = load_generator(path)
    held, train = CropSet.load([held_out]), CropSet.load([crops])
    real = held.batch(torch.arange(len(held)))
    reference = embeddings(real, FRAMING), pooled_features(real)
    result: dict[str, Any] = {}
    if not quick:
        other = train.batch(torch.arange(len(held)))
        result["real"] = {
            "faces_found": float(faces_found(real[:samples]).mean()),
            **_frechet(other, reference),
        }
    for psi in (1.0,) if quick else (1.0, 0.8):
        images = sample(generator, max(samples, len(held)), psi)
        row = _frechet(images[: len(held)], reference)
        if not quick:
            row["faces_found"] = float(faces_found(images[:samples]).mean())
        result[f"psi {psi}"] = row
    print(json.dumps(result, indent=2))


def _frechet(images: Tensor, reference: tuple[Features, Features]) -> dict[str, float]:
    return {
        "frechet": frechet_distance(embeddings(images, FRAMING), reference[0]),
        "frechet_lpips_thousandths": 1000 * frechet_distance(pooled_features(images), reference[1]),
    }


def load_generator(path: Path) -> Generator:
    """The generator of a training run or of a model's directory, in the precision that pays."""
    if (path / "model.json").is_file():
        return load_model(path, device="cpu").generator
    generator = load_trained_generator(path)[0]
    generator.dtype = hardware.choose("auto", "cpu").dtype
    return generator


@app.command("encoder")
def measure_encoder(
    model: str = typer.Argument(help="A model, for instance faces64 or faces64:single-pass-psp."),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    images: int = 500,
    steps: int = 5,
    dtype: str = "fp32",
) -> None:
    """Every metric after every step, averaged over held-out images.

    delta_norm is the mean distance of a style to the first: how far from W a latent is.
    """
    loaded = load_model(model, dtype=dtype, device="cpu")
    held = CropSet.load([held_out]).images[:images].permute(0, 2, 3, 1)
    result = invert(
        loaded, held, steps=steps, metrics=tuple(METRICS), reconstructions="none", batch_size=50
    )
    table = Table(title=f"{model}, {images} held-out images, {dtype}")
    table.add_column("step")
    for name in METRICS:
        table.add_column(name, justify="right")
    table.add_column("delta_norm", justify="right")
    latents = torch.as_tensor(result.latents)
    for step in range(steps):
        means = [f"{float(result.metrics[name][:, step].mean()):.4f}" for name in METRICS]
        distance = delta_norm(latents[:, step]) / (latents.shape[2] - 1)
        table.add_row(str(step + 1), *means, f"{float(distance):.2f}")
    Console().print(table)


@app.command("compare")
def compare_encoders(
    first: str = typer.Argument(help="A model, for instance faces64:restyle-psp."),
    second: str = typer.Argument(help="The one that it is compared with."),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    images: int = 1_000,
    steps: int = typer.Option(5, help="Of encoders that refine; others take one."),
    polish: int = typer.Option(0, help="Steps of optimisation after the first's."),
    dtype: str = "fp32",
) -> None:
    """Two encoders on the same held-out images after their last step, with 95% intervals.

    Each metric's mean by both, their difference (first minus second) and this in per cent of the
    second's mean; the intervals are bootstrapped over images, paired.
    """
    held = CropSet.load([held_out]).images[:images].permute(0, 2, 3, 1)
    a = last_metrics(first, held, steps, dtype, polish)
    b = last_metrics(second, held, steps, dtype)
    what = f"{first} and {polish} of polish" if polish else first
    title = f"{what} against {second}, {len(held)} held-out images, {dtype}"
    show_differences(title, (first.rpartition(":")[2], second.rpartition(":")[2]), a, b)


def show_differences(
    title: str, names: tuple[str, str], a: Mapping[str, Floats], b: Mapping[str, Floats]
) -> None:
    """Print the means of two methods' metrics on the same images, and what differs, paired.

    Args:
        title: of the table.
        names: of the two methods.
        a: [N] by metric, of the first.
        b: of the second, with the same metrics.
    """
    table = Table(title=title)
    table.add_column("metric")
    for name in (*names, "difference", "in per cent"):
        table.add_column(name, justify="right")
    for name in a:
        absolute, relative = differences(a[name], b[name])
        means = (f"{each[name].mean():.4f}" for each in (a, b))
        table.add_row(name, *means, absolute.show(), relative.show("+.1f"))
    Console(width=160).print(table)


@app.command("show")
def show_steps(
    target: Path = typer.Argument(help="The picture to write."),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    crops: str = typer.Option(help="Their numbers, with commas."),
    model: str = "faces64:restyle-psp",
    baseline: str = "faces64:single-pass-psp",
    steps: int = 5,
) -> None:
    """A column for each crop: the crop, what each step makes of it, and the single pass."""
    chosen = torch.tensor([int(number) for number in crops.split(",")])
    held = CropSet.load([held_out]).images[chosen].permute(0, 2, 3, 1)
    loaded = load_model(model, device="cpu")
    refined = invert(loaded, held, steps, reconstructions="all").reconstructions
    if refined is None:
        raise AssertionError("all reconstructions were asked for")
    once = invert(load_model(baseline, device="cpu"), held, 1).image
    made = [*(to_bytes(images) for images in refined.unbind(1)), to_bytes(once)]
    rows = torch.stack([held, *(images.permute(0, 2, 3, 1) for images in made)])
    pixels = rows.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1).numpy()
    sheet = Image.fromarray(pixels)
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.BICUBIC).save(target)


def last_metrics(
    model: str, held: Tensor, steps: int, dtype: str, polish: int = 0
) -> dict[str, Floats]:
    """Every metric, and delta_norm, of each image [N, S, S, 3] uint8 after the last step: [N]."""
    loaded = load_model(model, dtype=dtype, device="cpu")
    taken = steps if loaded.iterative else 1
    result = invert(loaded, held, taken, polish=polish, latents="last", batch_size=_BATCH)
    measured = [
        loaded.metrics(METRICS)(result.image[first : first + _BATCH], loaded.preprocess(crops))
        for first, crops in zip(range(0, len(held), _BATCH), torch.split(held, _BATCH), strict=True)
    ]
    metrics = {name: torch.cat([part[name] for part in measured]) for name in METRICS}
    styles = result.latents[:, -1]
    metrics["delta_norm"] = (styles[:, 1:] - styles[:, :1]).norm(dim=2).mean(dim=1)
    return {name: values.double().numpy() for name, values in metrics.items()}


def differences(a: Floats, b: Floats) -> tuple[Interval, Interval]:
    """How much the mean of a is above that of b: as it is, and in per cent of b's mean.

    Args:
        a: [N], one value per image.
        b: [N], of the same images.
    """

    def absolute(rows: Rows) -> float:
        return float(a[rows].mean() - b[rows].mean())

    def relative(rows: Rows) -> float:
        return 100 * absolute(rows) / float(b[rows].mean())

    return over_images(len(a), absolute), over_images(len(a), relative)


if __name__ == "__main__":
    app()
