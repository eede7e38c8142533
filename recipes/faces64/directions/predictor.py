"""A small network that tells a face's landmarks and age, differentiable in the picture.

It learns what :mod:`recipes.faces64.directions.labels` wrote, so that directions can be trained
through the generator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.editing.attributes import MEASURED_SIDE, SCORERS
from restyle.core.inference.model import Model

ATTRIBUTES = (*SCORERS, "age")
"""Order of the scores."""

_WIDTHS = (3, 32, 64, 128, 192)
_BATCH = 64
_HELD_OUT = 0.1
_RENDERED_AT_ONCE = 100


class Labelled:
    """Latents with labels.

    Args:
        path: what :mod:`recipes.faces64.directions.labels` wrote.

    Attributes:
        w: [N, style_dim].
        landmarks: [N, 68, 2], -1 to 1 across the picture.
        scores: [N, 4], in the order of :data:`ATTRIBUTES` and in units of the labels.
    """

    def __init__(self, path: Path) -> None:
        table = pq.read_table(path)

        def rows(name: str) -> Tensor:
            flat = table[name].combine_chunks().flatten().to_numpy()
            return torch.from_numpy(flat.reshape(len(table), -1).copy())

        self.w = rows("latent")
        self.landmarks = rows("landmarks").view(-1, 68, 2) / (MEASURED_SIDE / 2) - 1
        columns = [table[name].to_numpy() for name in ATTRIBUTES]
        self.scores = torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


class Predictor(nn.Module):
    """Pictures [B, 3, 64, 64] in [-1, 1] to scores [B, 4] and landmarks [B, 68, 2].

    Scores are in standard deviations of the labels from their mean; those of landmarks are computed
    from the landmarks that the network finds.
    """

    centre: Tensor
    spread: Tensor
    middle: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(_WIDTHS):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1), nn.GroupNorm(8, wide), nn.SiLU()]
            grouped = nn.Conv2d(wide, wide, 3, 1, 1, groups=wide // 16)
            layers += [grouped, nn.GroupNorm(8, wide), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.points = nn.Linear(_WIDTHS[-1] * 16, 136)
        self.age = nn.Linear(_WIDTHS[-1], 1)
        nn.init.zeros_(self.points.weight)
        self.register_buffer("middle", torch.zeros(136))
        self.register_buffer("centre", torch.zeros(len(ATTRIBUTES)))
        self.register_buffer("spread", torch.ones(len(ATTRIBUTES)))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and landmarks."""
        maps = self.body(pictures)
        points = (self.points(maps.flatten(1)) + self.middle).view(-1, 68, 2)
        measured = (measured_by_landmarks(points) - self.centre[:-1]) / self.spread[:-1]
        return torch.cat([measured, self.age(maps.mean(dim=(2, 3)))], dim=1), points

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """Read weights; they take no more gradients."""
        predictor = cls()
        predictor.load_state_dict(torch.load(path, weights_only=True))
        return predictor.eval().requires_grad_(False)


def upright(points: Tensor) -> Tensor:
    """Landmarks [B, 68, 2] with level eyes, in units of their distance."""
    left, right = points[:, 36:42].mean(dim=1), points[:, 42:48].mean(dim=1)
    across = right - left
    down = torch.stack([-across[:, 1], across[:, 0]], dim=1)
    centred = points - ((left + right) / 2)[:, None]
    turned = [(centred * axis[:, None]).sum(dim=2) for axis in (across, down)]
    return torch.stack(turned, dim=2) / across.square().sum(dim=1)[:, None, None]


def _smile(p: Tensor) -> Tensor:
    middle = p[:, [51, 62, 66, 57], 1].mean(dim=1)
    return p[:, 54, 0] - p[:, 48, 0] + middle - p[:, [48, 54], 1].mean(dim=1)


def _pose(p: Tensor) -> Tensor:
    left, right = p[:, 1:4, 0].mean(dim=1), p[:, 13:16, 0].mean(dim=1)
    return (2 * p[:, 30, 0] - left - right) / (right - left)


def _mouth(p: Tensor) -> Tensor:
    return (p[:, [65, 66, 67], 1] - p[:, [63, 62, 61], 1]).mean(dim=1)


# As restyle.core.editing.attributes, for batches of upright landmarks and with gradients.
_SCORES: dict[str, Callable[[Tensor], Tensor]] = {"smile": _smile, "pose": _pose, "mouth": _mouth}


def measured_by_landmarks(points: Tensor) -> Tensor:
    """Scores [B, 3] of landmarks [B, 68, 2], as by :data:`SCORERS`."""
    level = upright(points)
    return torch.stack([_SCORES[name](level) for name in SCORERS], dim=1)


@torch.inference_mode()
def render(model: Model, w: Tensor) -> Tensor:
    """Pictures [N, 3, S, S] of w [N, style_dim], in [-1, 1]."""
    parts = torch.split(w[:, None].expand(-1, model.n_styles, -1), _RENDERED_AT_ONCE)
    return torch.cat([model.synthesize(part).float().clamp(-1, 1) for part in parts])


def learn(pictures: Tensor, labelled: Labelled, epochs: int) -> Predictor:
    """Train on all but the first tenth; print how well it does on that.

    Args:
        pictures: [N, 3, 64, 64] in [-1, 1].
        labelled: labels of the pictures.
        epochs: passes over the pictures.
    """
    torch.manual_seed(0)
    predictor = Predictor()
    held = round(len(pictures) * _HELD_OUT)
    predictor.middle.copy_(labelled.landmarks.reshape(-1, 136).mean(dim=0))
    predictor.centre.copy_(labelled.scores.mean(dim=0))
    predictor.spread.copy_(labelled.scores.std(dim=0))
    wanted = (labelled.scores - predictor.centre) / predictor.spread
    adam = torch.optim.AdamW(predictor.parameters(), 2e-3, weight_decay=0.05)
    batches = (len(pictures) - held) // _BATCH
    rates = torch.optim.lr_scheduler.OneCycleLR(adam, 2e-3, epochs * batches)
    for epoch in range(epochs):
        predictor.train()
        order = torch.randperm(len(pictures) - held) + held
        for part in torch.split(order, _BATCH)[:batches]:
            noise = 0.02 * torch.randn_like(pictures[part])
            scores, points = predictor(pictures[part] + noise)
            loss = 40 * (points - labelled.landmarks[part]).abs().mean()
            loss = loss + F.smooth_l1_loss(scores, wanted[part])
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
            adam.step()
            rates.step()
        predictor.eval()
        print(f"epoch {epoch}: {_held_out(predictor, pictures[:held], wanted[:held])}", flush=True)
    return predictor.requires_grad_(False)


@torch.no_grad()
def _held_out(predictor: Predictor, pictures: Tensor, wanted: Tensor) -> str:
    scores = torch.cat([predictor(part)[0] for part in torch.split(pictures, 500)])
    both = [
        torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(scores.T, wanted.T, strict=True)
    ]
    return ", ".join(f"{name} {float(r):.3f}" for name, r in zip(ATTRIBUTES, both, strict=True))
