"""``restyle directions``: find, import and list editing directions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restyle.core.errors import SpecError
from restyle.core.shown_text import are, plural
from restyle.jobs.display.help import command, group
from restyle.jobs.display.terminal import aligned, say

if TYPE_CHECKING:
    from restyle.core.editing.directions import Direction
    from restyle.core.inference.model import Model
    from restyle.pipeline.results.labelled import FloatArray

app = group("directions", "Find, import and list directions of editing.")

ModelName = Annotated[
    str, typer.Option("--model", help="Name, directory or .pt file, as for restyle invert.")
]
To = Annotated[
    Path, typer.Option("--out", "--to", metavar="FOLDER", help="Where the files are written.")
]
LayersText = Annotated[
    str | None,
    typer.Option("--layers", metavar="RANGES", help="Styles it is meant for, as 0-3 or 0-1,8."),
]
Method = Literal["interfacegan", "ganspace", "sefa"]


@command(app, "fit")
def fit(
    to: To,
    latents: Annotated[
        str | None,
        typer.Argument(
            metavar="LATENTS",
            help="An output of restyle invert, or Parquet with a column 'latent'; for ganspace the "
            "model's own samples, if left out; nothing for sefa.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scores of the faces of an output: .csv, .tsv or Parquet with a column source or "
            "image_id, and face where photographs have several.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(help="A boundary for a score, principal components, or from the weights."),
    ] = "interfacegan",
    score: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Of the labels, or of LATENTS: larger is more. At least 100 latents need one.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the direction is called; the score's name if left out.")
    ] = None,
    model: ModelName = "faces64",
    layers: LayersText = None,
    count: Annotated[int, typer.Option(min=1, help="Directions of ganspace and sefa.")] = 10,
    outer: Annotated[
        float, typer.Option(help="Share of the latents at each end of the score to learn from.")
    ] = 0.15,
    held_out: Annotated[float, typer.Option(help="Share of the latents to measure on.")] = 0.25,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A direction to leave alone: name or file; may be given again."),
    ] = None,
) -> None:
    """Find directions in the latents of a generator.

    restyle directions fit OUT --labels labels.csv --score smile --out MINE
    """
    from restyle.core.editing.directions import check_name, parse_layers
    from restyle.core.editing.fit import FitSettings
    from restyle.core.editing.fitted import (
        Label,
        boundary_direction,
        component_directions,
        weight_directions,
    )
    from restyle.core.editing.lookup import find_direction
    from restyle.core.inference.model import load_model

    settings = FitSettings(outer=outer, held_out=held_out)
    chosen = None if layers is None else parse_layers(layers)
    _check_method(method, latents, score, without, labels)
    called = check_name(name or score or method)
    kept = [find_direction(each, model) for each in without or []]
    read = None if latents is None else _read(latents, labels, score)
    loaded = load_model(model, device="cpu")
    label = Label(called, chosen, _origin(loaded, latents, score))
    if method == "sefa":
        found = weight_directions(loaded.generator, label, count)
    elif read is None:
        found = component_directions(loaded.generator, label, count)
    elif method == "ganspace":
        found = component_directions(loaded.generator, label, count, read[0])
    else:
        found = [boundary_direction(loaded.generator, label, *read, settings, kept)]
    _write(found, to)


@command(app, "import")
def import_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pt or .npy file.")],
    to: To,
    name: Annotated[
        str | None, typer.Option(help="What it is called; the file's name if left out.")
    ] = None,
    component: Annotated[
        int | None,
        typer.Option(min=0, help="Of a file with several: this one alone, counted from 0."),
    ] = None,
    layers: LayersText = None,
) -> None:
    """Import directions from the files of InterfaceGAN, GANSpace, ReStyle and others."""
    from restyle.core.editing.directions import parse_layers
    from restyle.core.editing.imported import import_directions

    found = import_directions(source)
    if component is not None:
        if component >= len(found):
            raise SpecError(f"{source} has directions 0-{len(found) - 1}, no {component}")
        found = [found[component]]
    if name is not None:
        if len(found) > 1:
            raise SpecError(f"{source} has {len(found)} directions; choose a --component to name")
        found = [found[0].described(name=name)]
    if layers is not None:
        chosen = parse_layers(layers)
        found = [direction.described(layers=chosen) for direction in found]
    _write(found, to)


@command(app, "list")
def list_directions(
    model: ModelName = "faces64",
    folder: Annotated[
        Path | None,
        typer.Option("--in", metavar="FOLDER", help="Look here instead of into the model."),
    ] = None,
) -> None:
    """List the directions of a model, or those in a folder."""
    from restyle.core.editing.directions import SUFFIX, read_about, show_layers, show_reliable
    from restyle.core.editing.lookup import directions_of

    if folder is not None and not folder.is_dir():
        raise SpecError(f"{folder} is no folder")
    found = directions_of(model).values() if folder is None else folder.glob(f"*{SUFFIX}")
    rows = [("name", "kind", "layers", "reliable", "held-out", "origin")]
    for about in map(read_about, sorted(found, key=_numbered)):
        accuracy = "-" if about.accuracy is None else f"{about.accuracy:.1%} of {about.held_out}"
        rows.append(
            (
                about.name,
                about.kind,
                show_layers(about.layers),
                show_reliable(about.reliable),
                accuracy,
                about.origin,
            )
        )
    if len(rows) == 1:
        say(f"{folder or model} has no directions")
        return
    for line in aligned(rows):
        say(line)


def _numbered(path: Path) -> list[tuple[str, int]]:
    """Return a sort key that puts component-2 before component-10."""
    parts = re.findall(r"(\D*)(\d*)", path.stem)
    return [(word, int(number or -1)) for word, number in parts]


def _check_method(
    method: Method,
    latents: str | None,
    score: str | None,
    without: list[str] | None,
    labels: Path | None,
) -> None:
    if method == "interfacegan":
        if latents is None or score is None:
            raise SpecError("interfacegan needs LATENTS and --score")
    elif score is not None or without or labels is not None:
        raise SpecError(f"--score, --labels and --without are for interfacegan, not {method}")
    elif method == "sefa" and latents is not None:
        raise SpecError("sefa looks at the model's weights alone; leave LATENTS out")


def _read(latents: str, labels: Path | None, score: str | None) -> tuple[FloatArray, FloatArray]:
    """Read latents and scores, and say how many there are before anything is computed."""
    import numpy as np

    from restyle.core.editing.fit import FEWEST
    from restyle.pipeline.results.labelled import read_labelled
    from restyle.pipeline.results.labels import label_faces
    from restyle.pipeline.results.latents import read_latents

    is_output = labels is not None or "://" in latents or Path(latents, "_ledger").is_dir()
    if labels is not None and score is not None:
        found = label_faces(latents, labels, score)
        if found.unused:
            say(f"{plural(found.unused, 'label')} of {labels} {are(found.unused)} of no face")
        read = found.latents, found.scores
    elif is_output:
        rows, values = read_latents(latents, [] if score is None else [score])
        scores = np.zeros(len(rows)) if score is None else rows[score]
        read = values, np.asarray(scores, np.float32)
    else:
        read = read_labelled(Path(latents), score)
    if score is not None:
        scored = int(np.isfinite(read[1]).sum())
        say(f"{plural(scored, 'latent')} of {len(read[0]):,} with a score {score!r}")
        if scored < FEWEST:
            raise SpecError(
                f"{plural(scored, 'latent')} with a score; at least {FEWEST} are needed"
            )
    return read


def _origin(model: Model, latents: str | None, score: str | None) -> str:
    if latents is None:
        return f"{model.config.name} alone"
    column = f", column {score}" if score else ""
    return f"latents of {model.config.name} in {Path(latents).name}{column}"


def _write(found: Sequence[Direction], to: Path) -> None:
    for direction in found:
        path = direction.save(to)
        about = direction.about
        accuracy = (
            ""
            if about.accuracy is None or about.accuracy_all is None
            else f": {about.accuracy:.1%} of {about.held_out} held-out latents at the ends, "
            f"{about.accuracy_all:.1%} of all"
        )
        say(f"{path}{accuracy}")
