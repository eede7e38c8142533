"""Put a layer before the mapping network that moves z to where faces are.

The teacher renders three z in ten without a usable face, and a student that was distilled from it
shows no face for about as many. Its images of all other z are fine, and nearly every z without a
face has one close by. So a small network learns from labelled samples which w show a face that
dlib finds, another learns to move z by as little as that takes, and the second becomes part of
the mapping network, exactly. Nothing is rendered for it but the labelled samples; the synthesis
network, and with it every encoder and every direction, stays as it is.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from recipes.faces64.measure import faces_found, load_generator
from restyle.core.networks.generator import Generator, MappingLayer
from restyle.core.training.journal import Journal
from restyle.core.training.schedule import cosine_decay

MARGIN = 1.5
"""The logit that the w of a moved z should have."""

PULL = 60.0
"""Weight of the mean square by which z, whose own is 1, is moved."""

_SLOPE = 0.2
_BATCH = 512
_RENDERED = 50


class Acceptance(nn.Module):
    """w [B, style_dim] -> logit [B] that dlib finds a face in the generator's image of it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, style_dim: int, width: int = 256) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(style_dim))
        self.register_buffer("deviation", torch.ones(style_dim))
        self.layers = nn.Sequential(
            nn.Linear(style_dim, width), nn.SiLU(), nn.Dropout(0.5), nn.Linear(width, 1)
        )

    def forward(self, w: Tensor) -> Tensor:
        """[B, style_dim] -> [B]."""
        logits: Tensor = self.layers((w - self.mean) / self.deviation)[:, 0]
        return logits


class Shift(nn.Module):
    """z [B, z_dim] of unit mean square -> moved z [B, z_dim]."""

    def __init__(self, z_dim: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(z_dim, width)
        self.outer = nn.Linear(width, z_dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_dim] -> [B, z_dim]."""
        moved: Tensor = z + self.outer(F.leaky_relu(self.inner(z), _SLOPE))
        return moved


def fit_acceptance(w: Tensor, found: Tensor, epochs: int = 20) -> tuple[Acceptance, float]:
    """Learn from labelled w.

    Args:
        w: [N, style_dim].
        found: [N] float, 1 where a face was found.
        epochs: passes over the data.

    Returns:
        (network, its accuracy on the tenth of the data that was held out).
    """
    torch.manual_seed(0)
    network = Acceptance(w.shape[1])
    network.mean.copy_(w.mean(0))
    network.deviation.copy_(w.std(0))
    order = torch.randperm(len(w))
    held, rest = order[: len(w) // 10], order[len(w) // 10 :]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.1)
    steps = epochs * len(rest) // 256
    for step in range(steps):
        batch = rest[torch.randint(len(rest), (256,))]
        loss = F.binary_cross_entropy_with_logits(network(w[batch]), found[batch])
        optimizer.param_groups[0]["lr"] = 1e-3 * cosine_decay(step / steps, 0.3)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval().requires_grad_(False)
    right = (network(w[held]) > 0) == (found[held] > 0.5)
    return network, float(right.float().mean())


def learn_shift(generator: Generator, acceptance: Acceptance, steps: int = 500) -> Shift:
    """Learn to move z no farther than it takes to be accepted with the margin."""
    torch.manual_seed(1)
    normalize, layers = generator.style[0], generator.style[1:]
    z_dim = generator.config.z_dim
    # The layer that the shift becomes also carries z past it, each value as a pair.
    shift = Shift(z_dim, generator.config.style_dim - 2 * z_dim)
    optimizer = torch.optim.Adam(shift.parameters(), betas=(0.9, 0.99))
    for step in range(steps):
        z = normalize(torch.randn(_BATCH, z_dim))
        moved = shift(z)
        missing = F.softplus(MARGIN - acceptance(layers(moved))).mean()
        loss = missing + PULL * F.mse_loss(moved, z)
        optimizer.param_groups[0]["lr"] = 2e-3 * cosine_decay(step / steps, 0.3)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}  loss {float(loss.detach()):.4f}", flush=True)
    return shift.requires_grad_(False)


@torch.no_grad()
def prepend(generator: Generator, shift: Shift) -> Generator:
    """The generator whose mapping network is ``layers(shift(z))``, with one more layer.

    The first layer of the new network holds z, -z and the shift's hidden units; with a leaky ReLU
    of slope s, ``x = (leaky(x) - leaky(-x)) / (1 + s)``. What follows a hidden layer up to the next
    leaky ReLU is linear: the shift's outer layer and the mapping network's first one become one.
    """
    eye = torch.eye(generator.config.z_dim)
    old = cast(MappingLayer, generator.style[1])
    carry = torch.cat([eye, -eye], dim=1) / (1 + _SLOPE)
    weight, bias = old.weight * old.scale, old.bias * old.lr
    first = torch.cat([eye, -eye, shift.inner.weight])
    first_bias = torch.cat([torch.zeros(2 * len(eye)), shift.inner.bias])
    second = weight @ torch.cat([carry, shift.outer.weight], dim=1)
    second_bias = bias + weight @ shift.outer.bias

    state = {key: value for key, value in generator.state_dict().items() if key[:6] != "style."}
    config = dataclasses.replace(
        generator.config, mapping_layers=generator.config.mapping_layers + 1
    )
    longer = Generator(config)
    for key, value in generator.state_dict().items():
        if key.startswith("style."):
            _, old_index, name = key.split(".")
            state[f"style.{int(old_index) + 1}.{name}"] = value
    # The layers' own gain of sqrt(2) comes after the first layer's units.
    gains = {1: math.sqrt(2), 2: 1.0}
    for index, (matrix, offset) in {1: (first, first_bias), 2: (second, second_bias)}.items():
        layer = cast(MappingLayer, longer.style[index])
        state[f"style.{index}.weight"] = matrix / gains[index] / layer.scale
        state[f"style.{index}.bias"] = offset / gains[index] / layer.lr
    longer.load_state_dict(state)
    return longer.requires_grad_(False)


def main(
    generator: Path = typer.Argument(help="Run of the generator."),
    out: Path = typer.Argument(help="Folder for the run with the longer mapping network."),
    labels: int = typer.Option(16_000, help="Samples to look for a face in."),
) -> None:
    """Write a run like the generator's whose mapping network stays where faces are."""
    student = load_generator(generator)
    z = torch.randn(labels, student.config.z_dim, generator=torch.Generator().manual_seed(77))
    with torch.no_grad():
        w = student.mapping(z)
        images = torch.cat([student(part).float() for part in torch.split(z, _RENDERED)])
    found = torch.from_numpy(faces_found(images)).float()
    acceptance, accuracy = fit_acceptance(w, found)
    print(f"{float(found.mean()):.3f} of {labels} show a face; accuracy {accuracy:.3f}")
    longer = prepend(student, learn_shift(student, acceptance))
    Journal(out, {"generator": str(generator)}).save({"average": longer.state_dict()})


if __name__ == "__main__":
    typer.run(main)
