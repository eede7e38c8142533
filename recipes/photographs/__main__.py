"""``python -m recipes.photographs OUT --seed 0``, see the package."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import typer
from PIL import Image

from recipes.photographs.catalogue import Plan, plans
from recipes.photographs.compose import compose
from recipes.photographs.packages import CACHE, PACKAGES, fetch, open_picture, read
from recipes.photographs.sources import source_faces
from recipes.photographs.truth import Face, Photograph, write_truth
from restyle.core.errors import FatalError

# Pictures kept decoded in a process: few are used by many photographs.
_KEPT = 24


def main(
    out: Path = typer.Argument(help="The folder to write; files of the same name are replaced."),
    seed: int = typer.Option(0, help="Other seeds give other photographs."),
    cache: Path = typer.Option(CACHE, help="Where the packages are kept."),
    processes: int = typer.Option(os.cpu_count() or 1, help="Photographs made at once."),
    subset: str = typer.Option("", help="Make only this subset."),
) -> None:
    """Make the photographs and the truth of their faces."""
    try:
        for package in PACKAGES.values():
            fetch(package, cache)
    except FatalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    wanted = [plan for plan in plans(seed) if subset in ("", plan.subset)]
    made = list(_originals(out, cache)) if subset in ("", "originals") else []
    with multiprocessing.Pool(processes) as pool:
        for photograph in pool.imap(functools.partial(_make, out=out, cache=cache), wanted):
            made.append(photograph)
            typer.echo(f"{photograph.file}: {len(photograph.faces)} faces")
    write_truth(out, seed, made)
    typer.echo(f"{len(made)} photographs, {sum(len(photo.faces) for photo in made)} faces")


def _make(plan: Plan, out: Path, cache: Path) -> Photograph:
    data, photograph = compose(plan, functools.partial(_open, cache))
    _write(out / plan.file, data)
    return photograph


@functools.lru_cache(_KEPT)
def _open(cache: Path, name: str) -> Image.Image:
    return open_picture(cache, name)


def _originals(out: Path, cache: Path) -> Iterator[Photograph]:
    """Copy the pictures that have faces, as they are."""
    names = dict.fromkeys(face.picture for face in source_faces())
    for name in names:
        file = f"originals/{name.replace('/assets', '').replace('/', '-')}"
        _write(out / file, read(cache, name))
        faces = [
            Face(face.centre, face.side, 0.0, face.yaw, False, name)
            for face in source_faces()
            if face.picture == name
        ]
        yield Photograph(file, "originals", _open(cache, name).size, 1, faces)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    typer.run(main)
