"""Settings that determine the rows of an output, and their fingerprint.

All rows of an output are made with the same settings.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from restyle.core.devices.precision import Precision
from restyle.core.imaging.encoding import ImageFormat
from restyle.core.metrics.registry import check_metrics
from restyle.core.shown_text import plural

FacePolicy = Literal["largest", "all"]
Detector = Literal["hog", "exact", "cnn", "auto"]
SaveSteps = Literal["none", "metrics", "latents"]
Reconstructions = Literal["none", "last", "all"]
Origin = Literal["average", "encoder"]

PREDICTOR_VARIABLE = "RESTYLE_LANDMARKS"
"""Same value as in ``restyle.core.faces.alignment``, whose import takes a third of a second."""

GIVEN = "given"
"""Value of the setting ``landmarks`` where landmarks come from a file of the user."""

BEST_STEP_NAMES = {"id": "id_similarity"}
"""Short names of metrics for ``best_step``."""

MAX_STEPS = 100
MAX_POLISH = 1000
MAX_ITERATIONS = 10_000
MAX_SEED = 2**31 - 1
MAX_TOLERANCE = 2.0
"""Largest possible change of a pixel in [-1, 1]."""

FORMER_DETECTOR: Detector = "exact"
"""What finds the faces of outputs that record no detector."""

IDENTITY = "id_similarity"
"""The metric that a face recogniser measures."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(_Frozen, ABC):
    """Base class of the settings that determine the rows of an output."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over all settings, in hex."""

    def shown(self) -> dict[str, object]:
        """All fields as JSON, with the values that None stands for."""
        return self.model_dump(mode="json")

    def differences(self, earlier: Self) -> list[str]:
        """Return ``name: then -> now`` for every field that differs from ``earlier``."""
        then, now = earlier.shown(), self.shown()
        return [
            f"{name}: {_brief(then[name])} -> {_brief(now[name])}"
            for name in now
            if then[name] != now[name]
        ]


class InversionSettings(_Frozen):
    """Settings that the user requested; None selects the model's default.

    Attributes:
        model: Name, directory or file of the model, optionally with ``:encoder``.
        steps: Number of refinement steps, 1 to 100; None for 5, or 1 with a single-pass encoder.
        align: Whether to detect and align faces; if false, each image is inverted whole.
        faces: Faces of a photograph that get rows: the largest, or all.
        detector: Detector of faces, see :mod:`restyle.core.faces.detection`; None for the one of
            the output, ``hog`` in a new one.
        save_steps: Content of ``steps/``: none, metrics only, or metrics and latents.
        reconstructions: Steps whose images are kept: none, the last, or all.
        image_format: File format of the reconstructions; that of the encoder's inputs is ``png``.
        metrics: Metrics measured at each step, in the order of ``METRICS``.
        dtype: Precision; ``auto`` selects bf16 if the hardware supports it, ``tf32`` needs a GPU.
        tolerance: Mean absolute change of the pixels, in [-1, 1], below which an image takes no
            further steps; None for all steps.
        bootstrap: Model that performs the first step instead of ``model``; None for no such model.
        polish: Steps of optimisation after the encoder's, 0 to 1000; 0 for none.
        start: Where an optimisation starts whose rows tell how it went: at the average latent, or
            at an encoder's last; None for no such optimisation.
        iterations: Its steps, 0 to 10,000; None for 500. 0 leaves the encoder's latent as it is.
        target_loss: Loss, l2 and 0.8 LPIPS, at which an image is not optimised further; None for
            none.
        pivotal: Steps of tuning of a generator for each face, 0 to 10,000; 0 for none.
        seed: Of what is random in optimisation and tuning; None for 0.
        noise: Deviation of the noise in the first latents, as a share of the latents' spread.
        best_step: Metric whose best step, of each image, is the image's latent; None for the last
            step.
        identity_weights: File with the weights of the face recogniser that measures identity, see
            :mod:`restyle.core.faces.arcface`; None for the embedded one.
    """

    model: str = "faces64"
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    align: bool | None = None
    faces: FacePolicy = "largest"
    detector: Detector | None = None
    save_steps: SaveSteps = "metrics"
    reconstructions: Reconstructions = "last"
    image_format: ImageFormat = "png"
    metrics: tuple[str, ...] | None = None
    dtype: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    tolerance: Annotated[float, Field(ge=0, le=MAX_TOLERANCE)] | None = None
    bootstrap: str | None = None
    polish: Annotated[int, Field(ge=0, le=MAX_POLISH)] = 0
    start: Origin | None = None
    iterations: Annotated[int, Field(ge=0, le=MAX_ITERATIONS)] | None = None
    target_loss: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    pivotal: Annotated[int, Field(ge=0, le=MAX_ITERATIONS)] = 0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    best_step: str | None = None
    identity_weights: str | None = None

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else check_metrics(names)

    @field_validator("best_step")
    @classmethod
    def _one_metric(cls, name: str | None) -> str | None:
        return None if name is None else check_metrics((BEST_STEP_NAMES.get(name, name),))[0]


class ResolvedSettings(Settings):
    """Settings of an inversion with all defaults filled in.

    ``align``, ``faces``, ``save_steps``, ``reconstructions`` and ``metrics`` have the meaning that
    they have in :class:`InversionSettings`.

    Attributes:
        format: Version of the settings and of the datasets' layout.
        model: Name of the model and its encoder, such as ``faces64:restyle-psp``.
        model_fingerprint: Fingerprint of the model's configuration and weights.
        steps: Number of refinement steps by the encoder; 0 for an optimisation from the average.
        landmarks: ``default``, or the checksum of the user's landmark predictor; :data:`GIVEN` if
            the manifest holds the landmarks of each input; empty without alignment.
        detector: Detector of faces, or with given landmarks only the filter of crops; None without
            alignment, and in outputs that predate the option, which have the faces of ``exact``.
        image_format: As in :class:`InversionSettings`; None instead of ``png``.
        dtype: Precision of the computation.
        tolerance: As in :class:`InversionSettings`; None instead of 0, which has the same effect.
        bootstrap: Name and encoder of the model that performs the first step; None without one.
        bootstrap_fingerprint: Fingerprint of that model.
        polish: As in :class:`InversionSettings`; None instead of 0.
        start: As in :class:`InversionSettings`.
        iterations: As in :class:`InversionSettings`; None without ``start``.
        target_loss: As in :class:`InversionSettings`.
        pivotal: As in :class:`InversionSettings`; None instead of 0.
        seed: As in :class:`InversionSettings`; None without ``start``.
        noise: As in :class:`InversionSettings`; None instead of 0.
        best_step: As in :class:`InversionSettings`.
        identity: Face recogniser that measures identity, with the checksum of its weights; None
            for the embedded one.
    """

    format: Literal[2] = 2
    model: str
    model_fingerprint: str
    steps: int
    align: bool
    faces: FacePolicy
    landmarks: str
    detector: Detector | None = None
    save_steps: SaveSteps
    reconstructions: Reconstructions
    metrics: tuple[str, ...]
    image_format: Literal["jpeg", "webp"] | None = None
    dtype: Precision
    tolerance: float | None = None
    bootstrap: str | None = None
    bootstrap_fingerprint: str | None = None
    polish: int | None = None
    start: Origin | None = None
    iterations: int | None = None
    target_loss: float | None = None
    pivotal: int | None = None
    seed: int | None = None
    noise: float | None = None
    best_step: str | None = None
    identity: str | None = None

    @property
    def optimized(self) -> int:
        """Steps of optimisation, by either name; 0 for none."""
        return self.polish or self.iterations or 0

    @property
    def rows(self) -> int:
        """Steps of a face in ``steps``, at most.

        They are the encoder's, one for optimisation and one for tuning.
        """
        return self.steps + (self.optimized > 0) + (self.pivotal is not None)

    @property
    def ends(self) -> tuple[int, ...]:
        """The last steps of encoder, optimisation and tuning, those that there are."""
        parts = (self.steps, int(self.optimized > 0), int(self.pivotal is not None))
        return tuple(sum(parts[: index + 1]) for index, part in enumerate(parts) if part)

    @property
    def steps_shown(self) -> str:
        """The steps in words, such as ``5 steps`` or ``5 steps and 50 of polish``."""
        parts = [plural(self.steps, "step")] if self.steps else []
        if self.polish is not None:
            parts.append(f"{self.polish} of polish")
        if self.iterations:
            parts.append(f"{self.iterations:,} of optimisation")
        if self.pivotal is not None:
            parts.append(f"{self.pivotal:,} of tuning")
        return " and ".join(parts)

    def step_name(self, step: int) -> str:
        """Name of a step, counted from 1, that is not the encoder's; empty for one of these."""
        if step <= self.steps:
            return ""
        if self.pivotal is not None and step == self.rows:
            return "tuned"
        return "polished" if self.polish is not None else "optimised"

    def shown(self) -> dict[str, object]:
        """All fields as JSON, with the detector that None stands for."""
        return super().shown() | {"detector": self.searched_by if self.align else None}

    @property
    def searched_by(self) -> Detector:
        """The detector, also where none is recorded."""
        return self.detector or FORMER_DETECTOR

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all fields that are not None, in hex."""
        # Omitting None keeps the fingerprints of outputs that predate an optional field.
        fields = self.model_dump(mode="json", exclude_none=True)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _brief(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
