"""Verify an inversion: every input is in exactly one of ``latents`` and ``rejects``."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from restyle.pipeline.accounting.findings import columns, repeated
from restyle.pipeline.accounting.proof import Proof, SetFindings, Tables
from restyle.pipeline.ledger.datasets import (
    GENERATORS,
    LATENTS,
    RECONSTRUCTIONS,
    REJECTS,
    STEPS,
    datasets_of,
    latent_shape,
    schema,
)
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.manifest import Unit, unit_number
from restyle.pipeline.ledger.output import Manifest
from restyle.pipeline.ledger.revisions import outdated_inputs
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.planning.planned_inputs import read_revisions
from restyle.pipeline.storage.filesystem import Storage

Key = tuple[str, int, int]
"""``image_id``, ``revision`` and face number."""

Input = tuple[str, int]
"""``image_id`` and ``revision``."""


class InversionProof(Proof):
    """Verifier: every input is in exactly one of ``latents`` and ``rejects``.

    Args:
        storage: storage of the output.
        settings: settings of the output.
        done: names of finished units, which determine the outdated inputs.
    """

    keys = ("image_id", "revision", "face", "step", "steps", "best_step")

    def __init__(self, storage: Storage, settings: ResolvedSettings, done: Collection[str]) -> None:
        super().__init__(storage, settings.fingerprint)
        self.datasets = datasets_of(settings)
        self._settings = settings
        self._outdated = outdated_inputs(self.manifest, set(done))

    def schema(self, dataset: str, found: pa.Schema) -> pa.Schema:
        """As documented in :class:`Proof`."""
        return schema(dataset, self._settings, latent_shape(found))

    def manifest_problems(self) -> Iterator[str]:
        """Yield problems: units out of order, inputs planned twice, missing earlier revisions."""
        for before, after in itertools.pairwise(self.manifest.units):
            if unit_number(after.name) < unit_number(before.name):
                yield (
                    f"{after.plan} comes after {before.plan}, but holds unit {after.name}, which "
                    f"was planned before unit {before.name}"
                )
        yield from _revision_problems(self.manifest)

    def count(self, files: FileSet, units: Sequence[Unit], tables: Tables) -> SetFindings:
        """As documented in :class:`Proof`."""
        planned = {(image.image_id, image.revision) for unit in units for image in unit.images}
        outdated = {
            (image.image_id, image.revision)
            for unit in units
            for image in unit.images
            if image.image_id in self._outdated.get(unit.name, ())
        }
        faces = _keys(tables.get(LATENTS))
        rejected = _inputs(tables.get(REJECTS))
        inverted = {(image_id, revision) for image_id, revision, _ in faces}
        found = inverted | set(rejected)
        # The reject of an outdated input is optional: it may have been dropped.
        dropped = (planned - found) & outdated
        problems = [
            *_key_problems(faces, rejected, planned - dropped),
            *_count_problems(files, (len(planned), len(faces), len(rejected), len(dropped))),
            *_face_problems(self._settings, tables),
        ]
        return SetFindings(problems, len(found & planned), len(faces), len(rejected))


def _key_problems(
    faces: Sequence[Key], rejected: Sequence[Input], planned: set[Input]
) -> Iterator[str]:
    inverted = {(image_id, revision) for image_id, revision, _ in faces}
    found = inverted | set(rejected)
    yield from repeated("(image_id, revision, face)", faces, LATENTS)
    yield from repeated("(image_id, revision)", rejected, REJECTS)
    for image_id, revision in sorted(inverted & set(rejected)):
        yield f"input {image_id} (revision {revision}) is in both latents and rejects"
    for image_id, revision in sorted(planned - found):
        yield f"input {image_id} (revision {revision}) is in neither latents nor rejects"
    for image_id, revision in sorted(found - planned):
        yield f"input {image_id} (revision {revision}) is not one of this unit"


def _count_problems(files: FileSet, counts: tuple[int, int, int, int]) -> Iterator[str]:
    counted = (
        sum(record.images for record in files.units),
        files.faces,
        sum(sum(record.rejects.values()) for record in files.units),
        sum(record.dropped for record in files.units),
    )
    if counted != counts:
        yield (
            f"the ledger counts (inputs, faces, rejects, dropped) {counted}, "
            f"the files hold {counts}"
        )


def _revision_problems(manifest: Manifest) -> Iterator[str]:
    ids, revisions = read_revisions(manifest)
    order = np.lexsort((revisions, ids))
    ids, revisions = ids[order], revisions[order]
    is_same = np.append(False, ids[1:] == ids[:-1])
    expected = np.where(is_same, np.append(0, revisions[:-1]) + 1, 1)
    is_twice = is_same & (revisions == np.append(0, revisions[:-1]))
    for index in np.flatnonzero(is_twice):
        yield f"revision {revisions[index]} of input {_hex(ids[index])} is planned twice"
    for index in np.flatnonzero(~is_twice & (revisions != expected)):
        yield (
            f"revision {revisions[index]} of input {_hex(ids[index])} is planned, but "
            f"{expected[index]} is not"
        )


def _face_problems(settings: ResolvedSettings, tables: Tables) -> Iterator[str]:
    latents = tables.get(LATENTS)
    names = ("image_id", "revision", "face", "steps")
    faces = [] if latents is None else list(columns(latents, *names))
    fewest = settings.rows if settings.tolerance is None else 1
    if not all(fewest <= taken <= settings.rows for *_, taken in faces):
        yield f"{LATENTS} holds faces that took another number of steps than was asked for"
    best = _best_steps(settings, latents, faces)
    if not all(1 <= step <= taken for (*_, taken), step in zip(faces, best, strict=True)):
        yield f"{LATENTS} holds faces whose best step is none that they took"
    yield from _generator_problems(settings, tables, faces)

    def wanted(dataset: str, taken: int, best: int) -> Iterable[int]:
        if dataset == STEPS:
            return range(1, taken + 1) if settings.save_steps != "none" else ()
        # Beside an optimised or tuned image stands the one that it was made from.
        last = settings.ends if settings.tolerance is None else (taken,)
        if settings.best_step is not None:
            last = (best,)
        kept = {"none": (), "last": (0, *last), "all": range(taken + 1)}
        return kept[settings.reconstructions]

    for dataset in (STEPS, RECONSTRUCTIONS):
        if _step_keys(tables.get(dataset)) != sorted(
            (*key, step)
            for (*key, taken), chosen in zip(faces, best, strict=True)
            for step in wanted(dataset, taken, chosen)
        ):
            yield f"{dataset} does not hold each face's steps once"


def _best_steps(
    settings: ResolvedSettings, latents: pa.Table | None, faces: Sequence[tuple[Any, ...]]
) -> list[int]:
    """The step of each face's latent."""
    if settings.best_step is None or latents is None:
        return [taken for *_, taken in faces]
    return [step for (step,) in columns(latents, "best_step")]


def _generator_problems(
    settings: ResolvedSettings, tables: Tables, faces: Sequence[tuple[Any, ...]]
) -> Iterator[str]:
    tuned = sorted(tuple(key) for *key, _ in faces) if settings.pivotal is not None else []
    if sorted(_keys(tables.get(GENERATORS))) != tuned:
        yield f"{GENERATORS} does not hold each tuned face's generator once"


def _inputs(table: pa.Table | None) -> list[Input]:
    return [] if table is None else list(columns(table, "image_id", "revision"))


def _keys(table: pa.Table | None) -> list[Key]:
    return [] if table is None else list(columns(table, "image_id", "revision", "face"))


def _step_keys(table: pa.Table | None) -> list[tuple[str, int, int, int]]:
    if table is None:
        return []
    return sorted(columns(table, "image_id", "revision", "face", "step"))


def _hex(image_id: bytes) -> str:
    # numpy strips trailing zero bytes as padding.
    return image_id.ljust(16, b"\0").hex()
