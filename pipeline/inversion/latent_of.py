"""Finding a latent by the name of a face, in a file, or by inverting a photograph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from restyle.core.checkpoints.numpy_files import ArrayFileError, map_array
from restyle.core.errors import FatalError, RejectError, SpecError, reason_of
from restyle.pipeline.accounting.run_record import spec_of
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.ledger.parquet_files import file_of
from restyle.pipeline.ledger.settings import IDENTITY
from restyle.pipeline.results.face_rows import tuned_weights
from restyle.pipeline.results.faces import Place
from restyle.pipeline.results.found_face import find_face
from restyle.pipeline.results.latent_file import open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.storage.errors import DAMAGE

_MOST_VALUES = 1 << 20
"""Maximum number of values of a latent; the largest published ones have 18 * 512."""


def stored_latent(snapshot: Snapshot, place: Place) -> FloatArray:
    """The latent [n_styles, style_dim] of a face.

    Raises:
        FatalError: the file is missing or damaged.
    """
    named = file_of(place.files, LATENTS)
    if named is None:
        raise FatalError(f"the latents of this face are missing; {DAMAGE}")
    with open_latents(snapshot.out, named[0]) as file:
        target = np.empty((1, file.shape[0] * file.shape[1]), np.float32)
        file.read_into(np.array([place.row]), target)
        return target.reshape(file.shape)


def stored_weights(snapshot: Snapshot, place: Place) -> bytes | None:
    """Weights of the generator that was tuned for a face; None if none was.

    Raises:
        FatalError: the file is missing or damaged.
    """
    if snapshot.settings.pivotal is None:
        return None
    weights = tuned_weights(snapshot.out, place.files, (place.image_id, place.revision, place.face))
    if weights is None:
        raise FatalError(f"the generator of this face is missing; {DAMAGE}")
    return weights


def latent_of(snapshot: Snapshot, what: str, model: str | None = None) -> FloatArray:
    """Find a latent.

    Args:
        snapshot: the run.
        what: a ``.npy`` file with a latent; else a face of the run, as for
            :func:`restyle.pipeline.results.found_face.find_face`; else an image file to invert.
        model: to invert an image with; the run's model when None.

    Returns:
        [n_styles, style_dim] float32.

    Raises:
        SpecError: there is no such face or file, or it has no latent.
        FatalError: a file is damaged.
    """
    path = Path(what)
    if path.suffix == ".npy":
        return _loaded(path)
    try:
        found: FloatArray = find_face(snapshot.out, what).latents[0]
        return found
    except SpecError:
        if not path.is_file():
            raise
        return _inverted(snapshot, path, model)


def _loaded(path: Path) -> FloatArray:
    try:
        values = map_array(path)
    except ArrayFileError as error:
        raise SpecError(f"{path} cannot be read as .npy: {error}") from error
    if values.dtype.kind != "f":
        raise SpecError(f"{path} holds no floating-point array")
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or values.size > _MOST_VALUES or not np.isfinite(values).all():
        raise SpecError(f"{path} holds {list(values.shape)}; one finite latent is needed")
    latent: FloatArray = values.astype(np.float32)
    return latent


def _inverted(snapshot: Snapshot, path: Path, model: str | None) -> FloatArray:
    """Invert the largest face of an image with the run's settings."""
    from restyle.pipeline.decoding.crops import CropSettings, read_crops
    from restyle.pipeline.inversion.model_identity import identify

    settings = snapshot.settings
    if settings.bootstrap is not None:
        raise SpecError(
            f"{snapshot.storage.uri} was made by two models, so {path} cannot be inverted like it; "
            "name one of its sources or a .npy file"
        )
    if settings.identity is not None and settings.best_step == IDENTITY:
        raise SpecError(
            f"the best steps of {snapshot.storage.uri} were chosen by a face recogniser of its "
            f"user's, so {path} cannot be inverted like them; name one of its sources"
        )
    spec = model or spec_of(snapshot.storage, settings.model)
    identity = identify(spec)
    if identity.fingerprint != settings.model_fingerprint:
        raise SpecError(f"{spec} is not the model that {snapshot.storage.uri} was made with")
    crop = CropSettings.of(identity.config, settings.align, "largest", settings.searched_by)
    try:
        pixels = np.array(read_crops(path.read_bytes(), crop)[0].pixels)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {reason_of(error)}") from error
    except RejectError as error:
        raise SpecError(f"{path} gives no latent: {error}") from error
    from restyle.core.inference.inversion import begin_batch
    from restyle.core.inference.model import load_model
    from restyle.core.inference.results import Keep
    from restyle.pipeline.inversion.inverter import way_of

    best, way = settings.best_step, way_of(settings)
    # A generator's tuning does not move the latent.
    way = replace(way, tuning=0)
    keep = Keep("none", metrics=() if best is None else (best,))
    result = begin_batch(load_model(spec, dtype=settings.dtype), pixels[None], way, keep)()
    step = -1 if best is None else int(result.best(best)[0])
    latent: FloatArray = result.latents[0, step].float().cpu().numpy()
    return latent
