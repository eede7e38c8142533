"""Which model a run uses, found out and checked without torch where the format allows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from restyle_core.config import MODEL_FILE, ModelConfig, find_model, read_config
from restyle_core.errors import CheckpointError, SpecError


@dataclass(frozen=True)
class ModelIdentity:
    """A model with one of its encoders.

    Attributes:
        config: what ``model.json`` says.
        encoder: name of the encoder.
    """

    config: ModelConfig
    encoder: str

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
        spec: as :func:`restyle_core.load_model` takes it.

    Raises:
        SpecError: an unknown model or encoder.
        CheckpointError: files are missing or damaged, or do not fit together.
    """
    path, encoder = find_model(spec)
    return _identify_directory(path, encoder) if path.is_dir() else _identify_checkpoint(path)


def _identify_directory(directory: Path, encoder: str | None) -> ModelIdentity:
    config = read_config(directory)
    name = encoder or config.default_encoder
    if name not in config.encoders:
        known = ", ".join(sorted(config.encoders))
        raise SpecError(f"{config.name} has no encoder {name!r}; it has {known}")
    for entry in (config.generator, config.encoders[name]):
        _check_sum(directory / entry.file, entry.sha256)
    return ModelIdentity(config, name)


def _check_sum(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if found != expected:
        raise CheckpointError(
            f"{path} is damaged or was exchanged: its sha256 begins {found[:12]}, "
            f"{MODEL_FILE} says {expected[:12]}"
        )


def _identify_checkpoint(path: Path) -> ModelIdentity:
    # A published file says what it is only once it is loaded; this also finds out that it fits.
    from restyle_core.model import load_model

    model = load_model(path, dtype="fp32", device="cpu")
    return ModelIdentity(model.config, model.encoder_name)
