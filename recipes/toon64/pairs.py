"""What ``toon64`` learns from: cartoons, with the latents or the photographs that they belong to.

The generator learns from latents of ``faces64`` and drawings of the pictures that they make. Part
of the latents is drawn, part comes from the inversion of training crops, because toonify feeds the
cartoon's generator with inverted latents, which lie beside those that are drawn. The encoder
learns from training crops and drawings of them: it looks at a photograph and is judged by the
cartoon of it.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image

from recipes.toon64.cartoon import SIZE, cartoon
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model, load_model
from restyle.core.training.crops import CropSet

Pixels = npt.NDArray[np.uint8]

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
_BATCH = 50


def draw(pixels: Pixels) -> Pixels:
    """The cartoon of a picture [S, S, 3], at its own size."""
    return np.asarray(cartoon(Image.fromarray(pixels)).reduce(SIZE // len(pixels)))


def draw_all(pixels: Pixels, processes: int) -> Pixels:
    """The cartoons of pictures [N, S, S, 3]."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return np.stack(pool.map(draw, list(pixels), chunksize=25))


@torch.inference_mode()
def drawn_latents(model: Model, count: int, seed: int) -> torch.Tensor:
    """Latents [count, n_styles, style_dim] of fresh z."""
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(count, model.generator.config.z_dim, generator=source)
    return model.generator.mapping(z)[:, None].expand(-1, model.n_styles, -1)


def inverted_latents(model: Model, crops: Path, first: int, count: int) -> torch.Tensor:
    """Latents [count, n_styles, style_dim] of training crops, after three steps."""
    images = CropSet.load([crops]).images[first : first + count].permute(0, 2, 3, 1)
    result = invert(
        model, images, steps=3, reconstructions="none", latents="last", batch_size=_BATCH
    )
    return result.latents[:, 0]


@torch.inference_mode()
def render(model: Model, latents: torch.Tensor) -> Pixels:
    """Pictures [N, S, S, 3] of latents."""
    images = torch.cat([model.synthesize(part) for part in torch.split(latents, _BATCH)])
    pixels = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


@app.command("latents")
def make_latent_pairs(
    out: Path = typer.Argument(help="The .npz file to write."),
    crops: Path = typer.Option(help="Training crops, to be inverted."),
    drawn: int = typer.Option(3_600, help="Latents to draw."),
    inverted: int = typer.Option(2_400, help="Crops to invert."),
    first: int = typer.Option(0, help="First crop."),
    seed: int = typer.Option(22),
    processes: int = typer.Option(1),
) -> None:
    """Make latents, render and draw them, write both."""
    model = load_model("faces64", device="cpu")
    latents = torch.cat(
        [drawn_latents(model, drawn, seed), inverted_latents(model, crops, first, inverted)]
    )
    images = draw_all(render(model, latents), processes)
    np.savez(out, images=images, latents=latents.numpy().astype(np.float16))


@app.command("photos")
def make_photo_pairs(
    out: Path = typer.Argument(help="The .npz file to write."),
    crops: Path = typer.Option(help="Aligned crops, as recipes.faces64 makes them."),
    count: int = typer.Option(6_000, help="Crops to draw."),
    first: int = typer.Option(0, help="First crop."),
    processes: int = typer.Option(1),
) -> None:
    """Draw crops, write them beside their drawings."""
    kept = CropSet.load([crops]).images[first : first + count]
    photos = kept.permute(0, 2, 3, 1).contiguous().numpy()
    np.savez(out, images=photos, targets=draw_all(photos, processes))


if __name__ == "__main__":
    app()
