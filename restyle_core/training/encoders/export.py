"""Export of a trained encoder as a model directory."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from restyle.core.checkpoints.directory import save_model
from restyle.core.checkpoints.weights import EncoderWeights, ModelWeights
from restyle.core.errors import SpecError
from restyle.core.files import MOST_TOML, read_bytes
from restyle.core.networks.config import Domain, ModelConfig
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.generators.distillation import load_trained_generator
from restyle.core.training.journal import Journal


def export(run: Path, out: Path, name: str, *, align: bool) -> ModelConfig:
    """Write a model directory of an encoder's averaged weights and its generator.

    The weights are the best ones if the run was validated, else the last ones.

    Args:
        run: the folder of an encoder's training run.
        out: a directory that does not exist yet; its weights are float16.
        name: of the model.
        align: whether photographs of this domain are faces, to be aligned.

    Returns:
        The content of ``model.json``.

    Raises:
        SpecError: the folder is no run of an encoder, or has no checkpoint.
        CheckpointError: weights are damaged or do not fit together.
        FatalError: the directory exists or cannot be written.
    """
    try:
        spec = EncoderSpec.model_validate_json(read_bytes(run / "spec.json", MOST_TOML))
    except (OSError, ValidationError) as error:
        raise SpecError(f"{run} is no folder of an encoder's training run") from error
    best, last = run / "best.pt", run / "checkpoint.pt"
    if not last.is_file():
        raise SpecError(f"{run} has no checkpoint yet; let the training write one")
    size = Journal.read_checkpoint(last)["image_size"]
    weights = Journal.read_checkpoint(best if best.is_file() else last)
    domain = Domain(
        name=name,
        domain=name,
        image_size=(size, size),
        align=align,
        framing_scale=spec.framing_scale,
        framing_shift=spec.framing_shift,
    )
    kind = "single-pass" if not spec.iterative else "restyle"
    encoder = f"{kind}-{'psp' if spec.e4e is None else 'e4e'}"
    generator, _ = load_trained_generator(spec.generator)
    encoders = {encoder: EncoderWeights(spec.kind, weights["average"], weights["latent_avg"])}
    return save_model(
        ModelWeights(domain, generator.state_dict(), encoders, encoder), out, half=True
    )
