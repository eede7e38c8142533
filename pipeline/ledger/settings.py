"""Settings that determine the rows of an output, and their fingerprint.

All rows of an output are made with the same settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from restyle.core.devices.precision import Precision
from restyle.core.domains import preset_of
from restyle.core.errors import SpecError
from restyle.core.imaging.encoding import ImageFormat
from restyle.core.metrics.registry import METRICS, check_metrics
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

IDENTITY = "id_similarity"
"""The metric that a face recogniser measures."""

_STEPS = 5
_ITERATIONS = 500
_DETECTOR: Detector = "hog"
_FORMER_DETECTOR: Detector = "exact"


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
        return self.detector or _FORMER_DETECTOR

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all fields that are not None, in hex."""
        # Omitting None keeps the fingerprints of outputs that predate an optional field.
        fields = self.model_dump(mode="json", exclude_none=True)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def resolve(
    settings: InversionSettings,
    *,
    model: str,
    model_fingerprint: str,
    aligned_domain: bool,
    domain: str = "",
    iterative: bool,
    dtype: Precision,
    bootstrap: tuple[str, str] | None = None,
    earlier: ResolvedSettings | None = None,
    has_landmarks: bool = False,
    identity: str | None = None,
) -> ResolvedSettings:
    """Fill in the defaults of the requested settings.

    Args:
        settings: the requested settings.
        model: name and encoder of the model.
        model_fingerprint: fingerprint of its configuration and weights.
        aligned_domain: whether the model was trained on aligned faces.
        domain: domain of the model, whose preset selects the default metrics.
        iterative: whether the encoder refines its result over several steps.
        dtype: precision chosen for the device.
        bootstrap: name and fingerprint of the model that performs the first step.
        earlier: settings that the output was begun with; None for a new output.
        has_landmarks: whether the user gives the landmarks of faces.
        identity: name and checksum of the user's face recogniser; None for the embedded one.

    Raises:
        SpecError: landmarks are given without alignment, several steps are requested of a
            single-pass encoder, a bootstrap leaves no step for the model, options exclude each
            other, or the landmark predictor cannot be read.
    """
    _check_optimization(settings, bootstrap)
    if bootstrap is not None and (not iterative or settings.steps == 1):
        raise SpecError(
            f"the first step is {bootstrap[0]}'s, so that {model} needs an encoder that refines, "
            "and two steps or more"
        )
    if settings.steps not in (None, 1) and not iterative:
        raise SpecError(
            f"{model} works in a single pass; leave --steps out, or choose an encoder that refines"
        )
    _check_polish(settings, bootstrap)
    align = aligned_domain if settings.align is None else settings.align
    if has_landmarks and not align:
        raise SpecError(
            f"{model} takes each image whole here, without faces; leave --landmarks out, or give "
            "--align"
        )
    metrics = settings.metrics
    if metrics is None:
        metrics = tuple(
            name
            for name in check_metrics(preset_of(domain).metrics)
            if aligned_domain or not METRICS[name].needs_faces
        )
    from_average = settings.start == "average"
    encoder_steps = settings.steps or (_STEPS if iterative else 1) + (bootstrap is not None)
    return ResolvedSettings(
        model=model,
        model_fingerprint=model_fingerprint,
        steps=0 if from_average else encoder_steps,
        align=align,
        # Without alignment the policy has no effect, so it must not change the fingerprint.
        faces=settings.faces if align else "largest",
        landmarks=_landmarks(has_landmarks) if align else "",
        detector=_detector(settings.detector, earlier) if align else None,
        save_steps=settings.save_steps,
        reconstructions=settings.reconstructions,
        metrics=metrics,
        # Without reconstructions the format has no effect.
        image_format=(
            None
            if settings.image_format == "png" or settings.reconstructions == "none"
            else settings.image_format
        ),
        dtype=dtype,
        tolerance=settings.tolerance or None,
        bootstrap=bootstrap and bootstrap[0],
        bootstrap_fingerprint=bootstrap and bootstrap[1],
        polish=settings.polish or None,
        **_optimization(settings, metrics),
        identity=_identity(identity, metrics, aligned_domain),
    )


def _identity(identity: str | None, metrics: tuple[str, ...], aligned_domain: bool) -> str | None:
    if identity is not None and not (aligned_domain and IDENTITY in metrics):
        raise SpecError(
            f"--identity-weights are for {IDENTITY} of aligned faces, which is not measured here; "
            "leave them out"
        )
    return identity


def _optimization(settings: InversionSettings, metrics: tuple[str, ...]) -> dict[str, Any]:
    """The fields of an optimisation and of the best step."""
    best = settings.best_step
    if best is not None and best not in metrics:
        raise SpecError(
            f"--best-step {best} needs that metric, and this run measures "
            f"{', '.join(metrics) or 'none'}; add it to --metrics"
        )
    if settings.start is None:
        return {"best_step": best}
    given = settings.iterations
    return {
        "start": settings.start,
        "iterations": _ITERATIONS if given is None else given,
        "target_loss": settings.target_loss,
        "pivotal": settings.pivotal or None,
        "seed": settings.seed or 0,
        "noise": settings.noise or None,
    }


def _check_optimization(settings: InversionSettings, bootstrap: tuple[str, str] | None) -> None:
    """Check the options of ``restyle optimize`` against the others."""
    asked = {
        "--iterations": settings.iterations is not None,
        "--target-loss": settings.target_loss is not None,
        "--pivotal": bool(settings.pivotal),
        "--seed": settings.seed is not None,
        "--noise": bool(settings.noise),
    }
    if settings.start is None:
        unused = [name for name, is_given in asked.items() if is_given]
        if unused:
            raise SpecError(
                f"{', '.join(unused)} has no effect without an optimisation; use restyle optimize, "
                "or give --start"
            )
        return
    excluded = {
        "--polish": bool(settings.polish),
        "--tolerance": bool(settings.tolerance),
        "--bootstrap": bootstrap is not None,
        "--best-step": settings.best_step is not None,
        "--steps": settings.steps is not None and settings.start == "average",
    }
    wrong = [name for name, is_given in excluded.items() if is_given]
    if wrong:
        raise SpecError(
            f"{', '.join(wrong)} cannot be combined with an optimisation from the "
            f"{'average' if settings.start == 'average' else 'encoder'}; leave it out"
        )
    if settings.iterations == 0 and settings.start == "average":
        raise SpecError("an optimisation from the average needs --iterations of 1 or more")
    if settings.iterations == 0 and not settings.pivotal:
        raise SpecError(
            "--iterations 0 leaves nothing to do after the encoder; give --pivotal, or use restyle "
            "invert"
        )
    for name, is_given in (
        ("--target-loss", settings.target_loss is not None),
        ("--noise", bool(settings.noise)),
    ):
        if settings.iterations == 0 and is_given:
            raise SpecError(f"{name} has no effect with --iterations 0; leave it out")


def _check_polish(settings: InversionSettings, bootstrap: tuple[str, str] | None) -> None:
    if settings.polish and settings.tolerance:
        raise SpecError(
            f"--polish {settings.polish} and --tolerance {settings.tolerance:g} exclude each "
            "other; leave --tolerance out: polishing takes longer than all steps it could save"
        )
    if settings.polish and bootstrap is not None:
        raise SpecError(
            f"--polish {settings.polish} starts from the latents of one model; leave --bootstrap "
            "out, whose first step is another's"
        )


def _detector(asked: Detector | None, earlier: ResolvedSettings | None) -> Detector | None:
    """The detector of an output, None if the output predates the option."""
    if earlier is None or not earlier.align:
        return asked or _DETECTOR
    if asked is None or (asked == _FORMER_DETECTOR and earlier.detector is None):
        return earlier.detector
    return asked


def _landmarks(has_landmarks: bool) -> str:
    if has_landmarks:
        return GIVEN
    named = os.environ.get(PREDICTOR_VARIABLE)
    if not named:
        return "default"
    try:
        with Path(named).open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"{PREDICTOR_VARIABLE} names {named}, which cannot be read; correct or unset it"
        ) from error


def _brief(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
