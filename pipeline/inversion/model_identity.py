"""Which model a run uses, found out and checked without torch where the format allows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from restyle.core.networks.config import (
    ModelConfig,
    checked_file,
    find_model,
    read_config,
)


@dataclass(frozen=True)
class ModelIdentity:
    """A model with one of its encoders.

    Attributes:
        config: what ``model.json`` says.
        encoder: name of the encoder.
        domain_reason: why a published checkpoint is taken to be for its domain; empty for a
            directory, which says so itself.
    """

    config: ModelConfig
    encoder: str
    domain_reason: str = ""

    @property
    def name(self) -> str:
        """``faces64:restyle-psp``."""
        return f"{self.config.name}:{self.encoder}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex, the same as the loaded model's."""
        return self.config.fingerprint(self.encoder)

    @property
    def iterative(self) -> bool:
        """Whether the encoder refines."""
        return self.config.encoders[self.encoder].iterative


def identify(spec: str) -> ModelIdentity:
    """Find out which model is meant and that its files are whole.

    Args:
        spec: as :func:`restyle.core.load_model` takes it.

    Raises:
        SpecError: an unknown model, encoder or domain.
        CheckpointError: files are missing or damaged, or do not fit together.
    """
    path, encoder = find_model(spec)
    return _identify_directory(path, encoder) if path.is_dir() else _identify_checkpoint(spec)


def _identify_directory(directory: Path, encoder: str | None) -> ModelIdentity:
    config = read_config(directory)
    name = config.encoder_named(encoder)
    for entry in (config.generator, config.encoders[name]):
        checked_file(directory, entry)
    return ModelIdentity(config, name)


def _identify_checkpoint(spec: str) -> ModelIdentity:
    # A published file says what it is only once it is loaded; this also finds out that it fits.
    from restyle.core.inference.model import load_model

    model = load_model(spec, dtype="fp32", device="cpu")
    return ModelIdentity(model.config, model.encoder_name, model.domain_reason)
