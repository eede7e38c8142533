"""Loading the model that renders latents of an output."""

from __future__ import annotations

from restyle.core.errors import SpecError
from restyle.core.inference.model import Model, load_model
from restyle.pipeline.accounting.run_record import spec_of
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.storage.filesystem import Storage


def load_renderer(
    storage: Storage, settings: ResolvedSettings, spec: str | None = None, device: str = "auto"
) -> Model:
    """Load the model of an output.

    Args:
        storage: the output.
        settings: of the output.
        spec: another model to render with.
        device: as for :func:`restyle.core.load_model`.

    Raises:
        SpecError: no other model was given, and the output's model has changed.
        CheckpointError: its files are missing or damaged.
    """
    model = load_model(
        spec or spec_of(storage, settings.model), dtype=settings.dtype, device=device
    )
    if spec is None and model.fingerprint != settings.model_fingerprint:
        raise SpecError(
            f"{settings.model} is not what it was when {storage.uri} was made; "
            "name another with --model to render with it nevertheless"
        )
    return model
