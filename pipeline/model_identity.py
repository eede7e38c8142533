"""Which model a run uses, found out and checked without torch where the format allows it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from restyle_core.config import MODEL_FILE, ModelConfig, embedded_models, read_config
from restyle_core.errors import CheckpointError, SpecError


@dataclass(frozen=True)
class ModelIdentity:
    """A model with one of its encoders.

    Attributes:
        config: what ``model.json`` says.
        encoder: name of the encoder.
        fingerprint: SHA-256 in hex, the same as the loaded model's.
    """

    config: ModelConfig
    encoder: str
    fingerprint: str

    @property
    def name(self) -> str:
        """``faces64:restyle-psp``."""
        return f"{self.config.name}:{self.encoder}"

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
    found = _directory(spec)
    return _identify_checkpoint(spec) if found is None else _identify_directory(*found)


def fingerprint(config: ModelConfig, encoder: str) -> str:
    """What :attr:`restyle_core.model.Model.fingerprint` is, without loading the model."""
    entry = config.encoders[encoder]
    settings = config.model_dump(
        mode="json", exclude={"name", "generator", "encoders", "default_encoder"}
    )
    settings["generator"] = config.generator.sha256
    settings["encoder"] = [entry.sha256, entry.kind, entry.iterative]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _directory(spec: str) -> tuple[Path, str | None] | None:
    embedded = embedded_models()
    base, colon, suffix = spec.rpartition(":")
    for name, encoder in [(spec, None), (base, suffix)] if colon else [(spec, None)]:
        directory = embedded.get(name, Path(name))
        if (directory / MODEL_FILE).is_file():
            return directory, encoder
    return None


def _identify_directory(directory: Path, encoder: str | None) -> ModelIdentity:
    config = read_config(directory)
    name = encoder or config.default_encoder
    if name not in config.encoders:
        known = ", ".join(sorted(config.encoders))
        raise SpecError(f"{config.name} has no encoder {name!r}; it has {known}")
    for entry in (config.generator, config.encoders[name]):
        _check_sum(directory / entry.file, entry.sha256)
    return ModelIdentity(config, name, fingerprint(config, name))


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


def _identify_checkpoint(spec: str) -> ModelIdentity:
    # A published file says what it is only once it is loaded; this also finds out that it fits.
    from restyle_core.model import load_model

    model = load_model(spec, dtype="fp32", device="cpu")
    return ModelIdentity(model.config, model.encoder_name, model.fingerprint)
