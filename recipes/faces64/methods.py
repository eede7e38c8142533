"""Methods of inversion on the same held-out crops: metrics, edits and seconds, with intervals.

``make`` measures one method in pieces, each a file that a killed run keeps; ``show`` compares them.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor

from recipes.faces64.editability import IDENTITIES, Edits, Floats, edit_inverted, show_edits
from recipes.faces64.measure import show_differences
from restyle.core.editing.lookup import find_direction
from restyle.core.editing.strengths import parse_strengths
from restyle.core.inference.inversion import invert, optimize
from restyle.core.inference.model import Model, load_model
from restyle.core.inference.results import Inversion
from restyle.core.metrics.measures import METRICS
from restyle.core.training.crops import CropSet

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

_PIECE = 10
_HYBRID = 50
_STRENGTHS = "-3..3/9"
_DIRECTION = "smile"
_CHANGES = (-0.2, -0.1, 0.1, 0.2)


def inverted(model: Model, crops: Tensor, method: str) -> Inversion:
    """Invert crops [N, S, S, 3] uint8 by a method such as ``hybrid:50``.

    Methods are ``restyle``, ``optimize:N`` from the average, ``hybrid:N`` from the encoder's last
    latent, ``pti:N``, which tunes the generator around that, and ``hybrid-pti:N``, which tunes it
    around the latent of ``hybrid:50``.
    """
    name, _, number = method.partition(":")
    if name == "restyle":
        return invert(model, crops, 5, metrics=tuple(METRICS), latents="last")
    count = int(number)
    if name == "optimize":
        return optimize(model, crops, count, metrics=tuple(METRICS), latents="last")
    made = {"hybrid": (count, 0), "pti": (0, count), "hybrid-pti": (_HYBRID, count)}[name]
    return optimize(
        model,
        crops,
        made[0],
        start="encoder",
        tuning=made[1],
        metrics=tuple(METRICS),
        latents="last",
    )


@app.command("make")
def make(
    method: str = typer.Argument(help="restyle, optimize:N, hybrid:N, pti:N or hybrid-pti:N."),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    work: Path = typer.Option(help="Folder of the pieces."),
    model: str = "faces64:restyle-e4e",
    images: int = 200,
    edits: int = typer.Option(0, help="The first so many are edited too."),
    pieces: int | None = typer.Option(None, help="Stop after so many; by default after the last."),
) -> None:
    """Measure a method, piece by piece; pieces that are there are kept."""
    work.mkdir(parents=True, exist_ok=True)
    held = CropSet.load([held_out]).images[:images].permute(0, 2, 3, 1)
    loaded = load_model(model, dtype="fp32", device="cpu")
    missing = [
        (first, file)
        for first in range(0, len(held), _PIECE)
        if not (file := _file(work, model, method, first)).exists()
    ]
    for first, file in missing[:pieces]:
        crops = held[first : first + _PIECE]
        started = time.process_time()
        result = inverted(loaded, crops, method)
        found = {name: values[:, -1].numpy() for name, values in result.metrics.items()}
        found["seconds"] = np.full(len(crops), (time.process_time() - started) / len(crops))
        styles = result.latents[:, -1]
        found["delta_norm"] = (styles[:, 1:] - styles[:, :1]).norm(dim=2).mean(dim=1).numpy()
        if first < edits:
            made = edit_inverted(
                loaded,
                result,
                crops,
                find_direction(_DIRECTION, model),
                np.array(sorted(parse_strengths(_STRENGTHS))),
            )
            found["scores"] = made.scores
            found |= {f"kept {name}": values for name, values in made.kept.items()}
        part = file.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **found)
        part.rename(file)


@app.command("show")
def show(
    first: str = typer.Argument(help="A model and a method, as faces64:restyle-e4e=hybrid:50."),
    second: str = typer.Argument(help="The one that it is compared with."),
    work: Path = typer.Option(help="Folder of the pieces."),
    images: int = 200,
    edits: int = typer.Option(0, help="The first so many were edited."),
) -> None:
    """Two methods on the same images, with 95% intervals bootstrapped over the images, paired."""
    a, b = (_read(work, name, images) for name in (first, second))
    count = min(len(a["l2"]), len(b["l2"]))
    names = (*METRICS, "delta_norm", "seconds")
    one, other = ({name: each[name][:count].astype(float) for name in names} for each in (a, b))
    title = f"{first} against {second}, {count} held-out images"
    show_differences(title, ("first", "second"), one, other)
    if edits:
        show_edits(_DIRECTION, [_edits(a, edits), _edits(b, edits)], _CHANGES)


def _edits(found: dict[str, Floats], count: int) -> Edits:
    if len(found.get("scores", ())) < count:
        raise typer.BadParameter(
            f"fewer than {count} were edited; delete the pieces and make them with --edits {count}"
        )
    strengths = np.array(sorted(parse_strengths(_STRENGTHS)))
    kept = {name: found[f"kept {name}"][:count].astype(float) for name in IDENTITIES}
    return Edits(strengths, found["scores"][:count].astype(float), kept)


def _file(work: Path, model: str, method: str, first: int) -> Path:
    return work / f"{model.replace(':', '_')}-{method.replace(':', '_')}-{first:04d}.npz"


def _read(work: Path, name: str, images: int) -> dict[str, Floats]:
    """The values of all pieces that are there, in the order of the images."""
    model, _, method = name.rpartition("=")
    parts: dict[str, list[Floats]] = {}
    for first in range(0, images, _PIECE):
        file = _file(work, model, method, first)
        if not file.exists():
            break
        with np.load(file) as piece:
            for key in piece.files:
                parts.setdefault(key, []).append(piece[key])
    return {key: np.concatenate(each)[:images] for key, each in parts.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    app()
