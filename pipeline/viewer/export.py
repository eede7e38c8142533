"""Static export of the page with all faces of a run, or a selection of a large run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.core.shown_text import visible_strings
from restyle.pipeline.ledger.parquet_files import spread
from restyle.pipeline.report.change_maps import TOTAL, heatmap
from restyle.pipeline.storage.marks import PAGE
from restyle.pipeline.viewer.page import SCRIPTS, asset, page
from restyle.pipeline.viewer.pictures import Kind, thumbnail
from restyle.pipeline.viewer.run import ViewedRun

MOST_FACES = 500
_MOST_REJECTS = 10_000


def export(runs: Sequence[ViewedRun], folder: Path, most: int = MOST_FACES) -> int:
    """Write the page with its pictures.

    Args:
        runs: the first one is shown first; the same faces are taken from the others.
        folder: the target; must be empty, missing, or an earlier export, which is replaced.
        most: maximum number of faces of each run, selected uniformly.

    Returns:
        Number of exported faces of the first run.

    Raises:
        SpecError: the folder has other content.
        FatalError: a run is damaged, or the folder cannot be written.
    """
    try:
        _clear(folder)
        chosen = _chosen(runs, most)
        data = [_run(run, runs, chosen, folder, index) for index, run in enumerate(runs)]
        about = [run.about() | {"directions": [], "edit_reason": "", "state": ""} for run in runs]
        exported = {"faces": [len(each) for each in chosen]}
        (folder / "index.html").write_bytes(page(about, exported=exported))
        # A script, because pages opened from files cannot fetch data.
        script = f"const EXPORTED = {json.dumps(visible_strings(data), allow_nan=False)};\n"
        (folder / "data.js").write_text(script, encoding="ascii")
        for name in ("view.css", *SCRIPTS):
            (folder / name).write_bytes(asset(name))
    except OSError as error:
        raise FatalError(f"cannot write {error.filename}: {reason_of(error)}") from error
    return len(chosen[0])


def _clear(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / PAGE).is_file():
            raise SpecError(
                f"{folder} holds something else than a page of restyle view; name another folder"
            )
        for name in ("pictures", "index.html", "data.js", "view.css", *SCRIPTS):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text("{}\n", encoding="ascii")


def _chosen(runs: Sequence[ViewedRun], most: int) -> list[list[int]]:
    first = spread(range(len(runs[0].faces)), most)
    chosen = [first]
    for run in runs[1:]:
        partners = runs[0].partners(run)[first].tolist() if first else []
        found = [number for number in partners if number >= 0]
        rest = sorted(set(range(len(run.faces))) - set(found))
        chosen.append(sorted([*found, *spread(rest, most - len(found))]))
    return chosen


def _run(
    run: ViewedRun, runs: Sequence[ViewedRun], chosen: list[list[int]], folder: Path, index: int
) -> dict[str, Any]:
    faces = []
    places = [{number: at for at, number in enumerate(numbers)} for numbers in chosen]
    for number in chosen[index]:
        face = run.face(number)
        for step in face["pictures"]:
            data = thumbnail(run.picture(number, step), f"picture {number}")
            (folder / _picture(index, number, step)).write_bytes(data)
        maps: list[tuple[Kind, int]] = [("change", step) for step in face["changes"]]
        maps += [("difference", step) for step in face["differences"]]
        maps += [("change", TOTAL)] if face["has_total"] else []
        for kind, step in maps:
            data = heatmap(run.map_of(number, step, kind), max(face["scale"], 1e-6))
            (folder / _map(index, number, kind, step)).write_bytes(data)
        partners = [int(run.partners(other)[number]) for other in runs]
        # Indices of faces within the export.
        face["others"] = [
            places[at].get(partner) if at != index else None for at, partner in enumerate(partners)
        ]
        face["files"] = number
        faces.append(face)
    rejects = run.reject_page("", "", 0, _MOST_REJECTS)["rows"]
    return {"faces": faces, "rejects": rejects}


def _picture(run: int, number: int, step: int) -> str:
    return f"pictures/{run}-{number}-{step}.webp"


def _map(run: int, number: int, kind: Kind, step: int) -> str:
    return f"pictures/{run}-{number}-{kind}-{'total' if step == TOTAL else step}.png"
