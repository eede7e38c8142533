"""The faces that each metric rates worst, and medians over an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from restyle.core.metrics.registry import Metric, find_metric
from restyle.pipeline.ledger.parquet_files import spread
from restyle.pipeline.results.faces import FaceTable, Place, read_faces
from restyle.pipeline.results.snapshot import Snapshot

MAX_FILES = 1024
"""Maximum number of files of latents whose metrics are read; larger outputs are sampled."""

WORST = 3
"""Number of faces shown for each metric."""

# An output of so few faces is shown whole, where each is seen anyway.
_FEW = 2 * WORST


@dataclass(frozen=True)
class Worst:
    """The faces that one metric rates worst.

    Attributes:
        metric: the metric.
        places: of the faces, the worst first.
    """

    metric: Metric
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Ranking:
    """An output's faces in the order of each metric.

    Attributes:
        worst: by metric; empty for outputs of a few faces.
        medians: of each metric's last step, over the faces that have a value.
        faces: number of faces of the newest revisions that were compared.
        is_whole: whether these are all faces of the output.
    """

    worst: tuple[Worst, ...]
    medians: tuple[tuple[Metric, float], ...]
    faces: int
    is_whole: bool


def read_ranking(snapshot: Snapshot) -> Ranking:
    """Compare the faces of an output, of at most :data:`MAX_FILES` files.

    Raises:
        FatalError: a file is damaged or missing.
    """
    sets = spread(snapshot.sets, MAX_FILES)
    faces = read_faces(replace(snapshot, sets=tuple(sets)))
    metrics = [metric for name in faces.metrics if (metric := find_metric(name)) is not None]
    return Ranking(
        worst=tuple(_worst(faces, metrics)) if len(faces) > _FEW else (),
        medians=tuple(
            (metric, float(np.nanmedian(faces.metrics[metric.name]))) for metric in metrics
        ),
        faces=len(faces),
        is_whole=len(sets) == len(snapshot.sets),
    )


def _worst(faces: FaceTable, metrics: Sequence[Metric]) -> list[Worst]:
    found = []
    for metric in metrics:
        values = faces.metrics[metric.name]
        # A value that was not measured is last in both directions.
        order = np.argsort(values if metric.better == "higher" else -values, kind="stable")
        places = [faces.place(int(number)) for number in order[:WORST]]
        kept = np.isfinite(values[order[:WORST]])
        found.append(Worst(metric, tuple(np.array(places, object)[kept].tolist())))
    return [each for each in found if each.places]
