"""Identification and verification of a run's model, without torch for model directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restyle.core.networks.config import (
    ModelConfig,
    absolute_spec,
    checked_file,
    find_model,
    read_config,
)
from restyle.pipeline.planning.defaults import ModelFacts


@dataclass(frozen=True)
class ModelIdentity:
    """A model with one of its encoders.

    Attributes:
        config: content of ``model.json``.
        encoder: name of the encoder.
        domain_reason: how the domain of a published checkpoint was derived; empty for a directory.
    """

    config: ModelConfig
    encoder: str
    domain_reason: str = ""

    @property
    def name(self) -> str:
        """Name of model and encoder, such as ``faces64:restyle-psp``."""
        return f"{self.config.name}:{self.encoder}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex, equal to that of the loaded model."""
        return self.config.fingerprint(self.encoder)

    @property
    def iterative(self) -> bool:
        """Whether the encoder refines iteratively."""
        return self.config.encoders[self.encoder].iterative

    @property
    def facts(self) -> ModelFacts:
        """What the defaults of settings depend on."""
        return ModelFacts(
            self.name, self.fingerprint, self.config.align, self.config.domain, self.iterative
        )

    def described(self, spec: str) -> dict[str, Any]:
        """Description for ``run.json``; ``spec`` is as for :func:`restyle.core.load_model`."""
        return {
            "name": self.config.name,
            "spec": absolute_spec(spec),
            "domain": self.config.domain,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "image_size": list(self.config.image_size),
        }


def identify(spec: str) -> ModelIdentity:
    """Identify a model and verify its files.

    Args:
        spec: as for :func:`restyle.core.load_model`.

    Raises:
        SpecError: the model, encoder or domain is unknown.
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
    # A published checkpoint has to be loaded; this also checks its shapes.
    from restyle.core.inference.model import load_model

    model = load_model(spec, dtype="fp32", device="cpu")
    return ModelIdentity(model.config, model.encoder_name, model.domain_reason)
