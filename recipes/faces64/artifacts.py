"""How many of a generator's samples look like no photograph: exploded, fringed, noisy.

Four scores are computed of every image. What 99.9% of the training crops stay below is normal; an
image above it in any score is counted. Held-out crops, counted the same way, say how many of the
counted are nothing but rare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor

from recipes.faces64.measure import load_generator, sample
from restyle.core.metrics.features import pooled_features
from restyle.core.training.crops import CropSet

Scores = dict[str, npt.NDArray[np.float64]]

NORMAL = 99.9
"""Per cent of the training crops that are normal in a score."""

_BLOCK = 8
_BATCH = 500
# Y, Cb and Cr of BT.601.
_COLOURS = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))


def saturated(images: Tensor) -> Tensor:
    """Share of pixels [B] of which a channel is at its end, in images [B, 3, S, S] of [-1, 1]."""
    return (images.abs() >= 1).any(dim=1).float().mean(dim=(1, 2))


def roughness(images: Tensor) -> tuple[Tensor, Tensor]:
    """Energy of the finest detail in the worst block of 8x8 pixels: of brightness, of colour.

    Detail is what a 3x3 binomial filter takes away. Colour fringes are fine detail of chroma,
    of which photographs have little.

    Args:
        images: [B, 3, S, S] in [-1, 1].

    Returns:
        ([B], [B]).
    """
    planes = torch.einsum("kc,bchw->bkhw", torch.tensor(_COLOURS), images)
    taps = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(taps, taps).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(planes, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    blocks = F.avg_pool2d((planes - smooth).square(), _BLOCK).flatten(2)
    return blocks[:, 0].amax(dim=1), blocks[:, 1:].sum(dim=1).amax(dim=1)


@dataclass(frozen=True, eq=False)
class Familiar:
    """Training crops as a Gaussian in the features of :func:`pooled_features`."""

    mean: npt.NDArray[np.float64]
    whitening: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: npt.NDArray[np.float64], dimensions: int = 100) -> Familiar:
        """Along the principal components with the most variance, of features [N, D]."""
        mean = features.mean(axis=0)
        variances, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
        chosen = slice(-dimensions, None)
        return cls(mean, vectors[:, chosen] / np.sqrt(variances[chosen]))

    def distance(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Mahalanobis distance [N] of features [N, D] from the mean."""
        distances: npt.NDArray[np.float64] = np.linalg.norm(
            (features - self.mean) @ self.whitening, axis=1
        )
        return distances


def scores_of(images: Tensor, familiar: Familiar) -> Scores:
    """Every score of images [N, 3, S, S] in [-1, 1]: [N] by name."""
    parts = [(saturated(part), *roughness(part)) for part in torch.split(_as_saved(images), _BATCH)]
    columns = [torch.cat(column).double().numpy() for column in zip(*parts, strict=True)]
    named = dict(zip(("saturated", "brightness detail", "colour detail"), columns, strict=True))
    return named | {"unlike faces": familiar.distance(pooled_features(_as_saved(images)))}


def _as_saved(images: Tensor) -> Tensor:
    """With the rounding and the ends of eight bits."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def main(
    path: Path = typer.Argument(help="A training run or an embedded model's directory."),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    crops: Path = typer.Option(help="Training crops, which say what is normal."),
    samples: int = 10_000,
    grid: Path | None = typer.Option(None, help="PNG of the samples that are counted at psi 1."),
) -> None:
    """Share of samples, and of held-out crops, that are beyond what is normal."""
    train, held = (CropSet.load([path]) for path in (crops, held_out))
    known = train.batch(torch.arange(len(train)))
    # One half says where faces are, the other how far from there they get.
    familiar = Familiar.of(pooled_features(known[::2]))
    limits = {
        name: np.percentile(values, NORMAL)
        for name, values in scores_of(known[1::2], familiar).items()
    }
    generator = load_generator(path)
    sources: dict[str, Callable[[], Tensor]] = {
        "held-out crops": lambda: held.batch(torch.arange(len(held))),
        "psi 1": lambda: sample(generator, samples, 1.0),
        "psi 0.8": lambda: sample(generator, samples, 0.8),
    }
    for source, draw in sources.items():
        images = draw()
        excess = {
            name: values / limits[name] for name, values in scores_of(images, familiar).items()
        }
        worst = np.max(list(excess.values()), axis=0)
        shares = ", ".join(f"{name} {np.mean(each > 1):.2%}" for name, each in excess.items())
        print(f"{source}: {np.mean(worst > 1):.2%} of {len(images)} beyond normal ({shares})")
        if source == "psi 1" and grid is not None:
            write_grid(images[np.argsort(-worst)[: int((worst > 1).sum())]], grid)


def write_grid(images: Tensor, path: Path, columns: int = 16) -> None:
    """Images [N, 3, S, S] in rows, the first the worst."""
    side = images.shape[-1]
    canvas = Image.new("RGB", (columns * side, max(1, -(-len(images) // columns)) * side))
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    for index, each in enumerate(pixels.numpy()):
        canvas.paste(Image.fromarray(each), (index % columns * side, index // columns * side))
    canvas.save(path)


if __name__ == "__main__":
    typer.run(main)
