"""What a method made of the faces, read from its output: metrics by step, and seconds an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.core.errors import SpecError
from restyle.pipeline.evaluation.methods import Contender
from restyle.pipeline.ledger.datasets import LATENTS, STEPS, latent_shape
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.parquet_files import open_parquet
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.results.face_rows import Key
from restyle.pipeline.results.faces import FaceTable, read_faces
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
KEY = ("image_id", "revision", "face")

DISTANCE = "w_distance"
"""Name of the mean distance of a latent's styles from the first one, which is 0 in W."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A method's output, with the faces in the order of all methods.

    Attributes:
        contender: the method and its model.
        snapshot: its output.
        table: all faces of the output.
        numbers: [N] of the compared faces in the table.
        values: [N] by metric, after the last step, and :data:`DISTANCE`; NaN where not measured.
        steps: [N, steps] by metric; the last values are repeated after an early stop.
        seconds: seconds an image until the end of each step, without start-up and alignment.
    """

    contender: Contender
    snapshot: Snapshot
    table: FaceTable
    numbers: Ints
    values: dict[str, Floats]
    steps: dict[str, Floats]
    seconds: tuple[float, ...]

    @property
    def settings(self) -> ResolvedSettings:
        """Settings of the output."""
        return self.snapshot.settings

    @property
    def keys(self) -> list[Key]:
        """Keys of the compared faces in this output."""
        keys = keys_of(self.table.rows)
        return [keys[number] for number in self.numbers.tolist()]


def read_all(outputs: Sequence[tuple[Contender, str]]) -> list[Measured]:
    """Read the outputs of all methods, with the faces that all of them have.

    Args:
        outputs: each method with its output, a path or any fsspec URI.

    Raises:
        SpecError: there is no face that all of them have.
        FatalError: a file of an output is damaged.
    """
    snapshots = [read_snapshot(out) for _, out in outputs]
    tables = [read_faces(snapshot) for snapshot in snapshots]
    partners = [tables[0].partners(other) for other in tables]
    common = np.flatnonzero(np.all([each >= 0 for each in partners], axis=0))
    if not common.size:
        raise SpecError(
            f"no face was found that can be compared; `restyle status {outputs[0][1]}` counts the "
            "rejected inputs by reason"
        )
    return [
        _measured(contender, snapshot, table, numbers[common])
        for (contender, _), snapshot, table, numbers in zip(
            outputs, snapshots, tables, partners, strict=True
        )
    ]


def _measured(
    contender: Contender, snapshot: Snapshot, table: FaceTable, numbers: Ints
) -> Measured:
    values = {name: each[numbers].astype(np.float64) for name, each in table.metrics.items()}
    rows = snapshot.settings.rows
    steps = {name: each[numbers] for name, each in _steps(snapshot, table, rows).items()}
    records = [record for files in snapshot.sets for record in files.units]
    return Measured(
        contender,
        snapshot,
        table,
        numbers,
        values | {DISTANCE: _distances(snapshot, table)[numbers]},
        steps,
        seconds_of(records, rows),
    )


def seconds_of(records: Sequence[UnitRecord], steps: int) -> tuple[float, ...]:
    """Seconds an image until the end of each step, from the entries of the ledger.

    They are those of the runs that committed the units, and stay when another run continues.
    Alignment, start-up, metrics, reading and writing are left out. Where steps were not measured,
    as on a GPU, all take the same share of the time of computing, in which metrics are.

    Args:
        records: of the committed units.
        steps: of a face.
    """
    faces = sum(record.faces for record in records)
    if not faces:
        return (0.0,) * steps
    done = [record for record in records if record.faces]
    if all(len(record.step_seconds) == steps for record in done):
        each = np.sum([record.step_seconds for record in done], axis=0) / faces
    else:
        each = np.full(steps, sum(record.seconds.get("invert", 0.0) for record in done))
        each /= faces * steps
    return tuple(np.cumsum(each).tolist())


def _distances(snapshot: Snapshot, table: FaceTable) -> Floats:
    """Mean distance of each face's styles from its first, in the order of the table."""
    found = np.full(len(table), np.nan)
    for number, files in enumerate(table.sets):
        mine = np.flatnonzero(table.set_of == number)
        for file in files.files if mine.size else ():
            if not file.name.startswith(f"{LATENTS}/"):
                continue
            with open_parquet(snapshot.out, file.name) as parquet:
                shape = latent_shape(parquet.schema_arrow)
                rows = parquet.read(["latent"], use_threads=False)["latent"].combine_chunks()
            styles = rows.flatten().to_numpy().reshape(-1, *shape)[table.row_of[mine]]
            lengths = np.linalg.norm(styles[:, 1:] - styles[:, :1], axis=2)
            found[mine] = lengths.mean(axis=1, dtype=np.float64)
    return found


def _steps(snapshot: Snapshot, table: FaceTable, steps: int) -> dict[str, Floats]:
    """Metrics [faces, steps] by name, in the order of the table."""
    names = list(table.metrics)
    found = {name: np.full((len(table), steps), np.nan) for name in names}
    place = {key: row for row, key in enumerate(keys_of(table.rows))}
    for file in snapshot.files(STEPS):
        with open_parquet(snapshot.out, file.name) as parquet:
            rows = parquet.read([*KEY, "step", *names], use_threads=False)
        rows = rows.filter(snapshot.stands(rows))
        at = np.array([place[key] for key in keys_of(rows)], np.int64)
        step = np.asarray(rows["step"]).astype(np.int64) - 1
        for name in names:
            found[name][at, step] = rows[name].to_numpy()
    for values in found.values():
        for number in range(1, steps):
            missing = np.isnan(values[:, number])
            values[missing, number] = values[missing, number - 1]
    return found


def keys_of(rows: pa.Table | pa.RecordBatch) -> list[Key]:
    """Keys of rows with the columns :data:`KEY`."""
    return list(zip(*(rows[name].to_pylist() for name in KEY), strict=True))
