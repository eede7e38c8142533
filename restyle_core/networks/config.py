"""The typed content of ``model.json``. Imports no torch, for commands that only inspect models."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from restyle.core.errors import CheckpointError, SpecError, fault_of, reason_of
from restyle.core.files import open_file, read_bytes

MODEL_FILE = "model.json"
"""Name of the file that describes a model directory."""

MOST_BYTES = 1 << 20
"""Maximum size of a model.json."""

_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_EMBEDDED = Path(__file__).parents[1] / "models"


class EncoderKind(StrEnum):
    """Encoder architectures, named as in ``opts`` of published checkpoints."""

    BACKBONE = "BackboneEncoder"
    PROGRESSIVE_BACKBONE = "ProgressiveBackboneEncoder"
    RESNET_BACKBONE = "ResNetBackboneEncoder"
    RESNET_PROGRESSIVE_BACKBONE = "ResNetProgressiveBackboneEncoder"
    GRADUAL_STYLE = "GradualStyleEncoder"
    RESNET_GRADUAL_STYLE = "ResNetGradualStyleEncoder"
    ENCODER4EDITING = "Encoder4Editing"
    INTO_W = "BackboneEncoderUsingLastLayerIntoW"
    INTO_W_PLUS = "BackboneEncoderUsingLastLayerIntoWPlus"
    AVERAGE = "AverageEncoder"
    SMALL_BACKBONE = "SmallBackboneEncoder"
    SMALL_PROGRESSIVE_BACKBONE = "SmallProgressiveBackboneEncoder"


def _local_name(name: str) -> str:
    """Check that a path is relative and inside the model's directory, which may be untrusted."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(f"{name!r} is not a file inside the model's directory")
    return name


LocalName = Annotated[str, AfterValidator(_local_name), Field(max_length=255)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Side = Annotated[int, Field(ge=8, le=1024)]
Row = Annotated[int, Field(ge=0, le=4096)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GeneratorFile(_Frozen):
    """A generator's weights.

    Attributes:
        file: safetensors file, relative to the model's directory.
        sha256: its checksum in hex.
    """

    file: LocalName
    sha256: Sha256


class AverageSamples(_Frozen):
    """How an average latent was computed: the mean of what the mapping network makes of noise.

    Attributes:
        samples: number of random vectors.
        seed: of their generator.
    """

    samples: Annotated[int, Field(ge=1)]
    seed: int


class EncoderFile(_Frozen):
    """An encoder's weights, with its ``latent_avg`` [n_styles, style_dim] among them.

    Attributes:
        file: safetensors file, relative to the model's directory.
        sha256: its checksum in hex.
        kind: the architecture.
        iterative: whether it refines (6 input channels: image and reconstruction) or is single-pass
            (3 channels).
        computed_average: how ``latent_avg`` was computed; None if the checkpoint brought it.
    """

    file: LocalName
    sha256: Sha256
    kind: EncoderKind
    iterative: bool
    computed_average: AverageSamples | None = None


class Domain(_Frozen):
    """Settings of a model apart from its weights. Values have bounds, because files are untrusted.

    Attributes:
        name: of the model.
        domain: ``faces``, ``cars``, ``church``, ...
        image_size: height and width of the encoder's input in pixels, 8 to 1024; the encoder's
            ``accepts`` may be stricter.
        output_rows: first and one-past-last row kept of the generated image, for domains that are
            not square (cars: 64 to 448 of 512); all rows when None.
        align: whether photographs of this domain are aligned by default.
        framing_scale: side of the aligned crop relative to the FFHQ quad.
        framing_shift: displacement of the crop towards the chin, in units of the quad's side.
    """

    name: Name
    domain: Annotated[str, Field(max_length=200)]
    image_size: tuple[Side, Side]
    output_rows: tuple[Row, Row] | None = None
    align: bool = False
    framing_scale: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    framing_shift: Annotated[float, Field(ge=-100, le=100)] = 0.0

    def for_what(self, reason: str) -> str:
        """The domain and what follows from it, for a person.

        Args:
            reason: why it is this one, as a clause.
        """
        taken = "photographs are aligned" if self.align else "photographs are taken whole"
        return f"domain {self.domain}, {taken} ({reason})"

    @field_validator("output_rows")
    @classmethod
    def _is_a_range(cls, rows: tuple[int, int] | None) -> tuple[int, int] | None:
        if rows is not None and not 0 <= rows[0] < rows[1]:
            raise ValueError(f"{rows} is not a range of rows")
        return rows


class ModelConfig(Domain):
    """Content of ``model.json``: a domain, a generator and its encoders.

    Attributes:
        format: version of the file format.
        generator: the generator's weights.
        encoders: encoders by name.
        default_encoder: the encoder used when none is named.
    """

    format: Literal[1] = 1
    generator: GeneratorFile
    encoders: Annotated[dict[Name, EncoderFile], Field(min_length=1, max_length=1000)]
    default_encoder: Name

    @model_validator(mode="after")
    def _default_is_there(self) -> ModelConfig:
        if self.default_encoder not in self.encoders:
            raise ValueError(
                f"default_encoder {self.default_encoder!r} is not among the encoders "
                f"({', '.join(sorted(self.encoders))})"
            )
        return self

    def encoder_named(self, name: str | None) -> str:
        """Check an encoder's name; None is the default encoder.

        Raises:
            SpecError: there is no such encoder.
        """
        if name is None:
            return self.default_encoder
        if name not in self.encoders:
            names = ", ".join(sorted(self.encoders))
            raise SpecError(f"{self.name} has no encoder {name!r}; it has {names}")
        return name

    def fingerprint(self, encoder: str) -> str:
        """Fingerprint of all that determines a latent.

        Args:
            encoder: name of the encoder.

        Returns:
            SHA-256 in hex of the weights' checksums and of every setting that changes a latent;
            does not depend on the files' names and locations.
        """
        entry = self.encoders[encoder]
        settings = self.model_dump(
            mode="json", exclude={"name", "generator", "encoders", "default_encoder"}
        )
        settings["generator"] = self.generator.sha256
        settings["encoder"] = [entry.sha256, entry.kind, entry.iterative]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_config(directory: Path) -> ModelConfig:
    """Read ``model.json``.

    Raises:
        CheckpointError: the file is missing or invalid.
    """
    path = directory / MODEL_FILE
    try:
        return ModelConfig.model_validate_json(read_bytes(path, MOST_BYTES))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error
    except ValidationError as error:
        fault = fault_of(error.errors()[0], "the file")
        raise CheckpointError(f"{path} is not valid: {fault}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error


def checked_file(directory: Path, entry: GeneratorFile | EncoderFile) -> Path:
    """Verify a weights file against its checksum and return its path.

    Raises:
        CheckpointError: the file is missing, outside of the directory, or has another checksum.
    """
    path = directory / entry.file
    if directory.resolve() not in path.resolve().parents:
        raise CheckpointError(
            f"{path} leads out of the model's directory; put the file itself there"
        )
    found = file_sha256(path)
    if found != entry.sha256:
        raise CheckpointError(
            f"{path} is damaged or was exchanged: its sha256 begins {found[:12]}, "
            f"{MODEL_FILE} says {entry.sha256[:12]}"
        )
    return path


def find_model(spec: str) -> tuple[Path, str | None]:
    """Resolve a model's name to its files.

    Args:
        spec: the name of an embedded model or a model directory, either with an optional
            ``:ENCODER`` suffix, or a published checkpoint, with an optional ``:DOMAIN`` suffix. An
            embedded name takes precedence over a folder of that name.

    Returns:
        The model directory or the checkpoint file, and the suffix, if any: the name of an encoder
        or of a domain.

    Raises:
        SpecError: no embedded model has this name; the message lists them.
        CheckpointError: the path does not exist or is not a model.
    """
    embedded = embedded_models()
    base, colon, suffix = spec.rpartition(":")
    for name, chosen in [(spec, None), (base, suffix)] if colon else [(spec, None)]:
        path = embedded.get(name, Path(name))
        if (path / MODEL_FILE).is_file() or path.is_file():
            return path, chosen
    path = Path(spec)
    if path.is_dir():
        raise CheckpointError(f"{path} is no model directory: it has no {MODEL_FILE}")
    if len(path.parts) > 1 or path.suffix in _CHECKPOINT_SUFFIXES:
        raise CheckpointError(f"{path} does not exist")
    raise SpecError(
        f"no model is called {spec!r}; embedded are: {', '.join(embedded) or 'none'}; "
        "or give a model directory or a .pt checkpoint"
    )


def absolute_spec(spec: str) -> str:
    """A spec for :func:`find_model` that does not depend on the working directory.

    Raises:
        SpecError, CheckpointError: as :func:`find_model`.
    """
    path, chosen = find_model(spec)
    if path in embedded_models().values():
        return spec
    return str(path.absolute()) + (f":{chosen}" if chosen else "")


def with_domain(spec: str, domain: str) -> str:
    """A published checkpoint as :func:`find_model` takes it, meant for a domain.

    Raises:
        SpecError: a model directory, which says itself what it is for; or no model.
        CheckpointError: as :func:`find_model`.
    """
    path, _ = find_model(spec)
    if path.is_dir():
        raise SpecError(
            f"--domain is for published checkpoints; the {MODEL_FILE} of {spec} says what it is for"
        )
    return f"{path}:{domain}"


def embedded_models() -> dict[str, Path]:
    """Directories of the models in the package, by name."""
    return {path.parent.name: path.parent for path in sorted(_EMBEDDED.glob(f"*/{MODEL_FILE}"))}
