"""Defaults of the settings that a user leaves open, and checks of settings against each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restyle.core.devices.precision import Precision
from restyle.core.domains import preset_of
from restyle.core.errors import CheckpointError, SpecError
from restyle.core.metrics.registry import METRICS, check_metrics
from restyle.core.networks.config import file_sha256
from restyle.pipeline.ledger.settings import (
    FORMER_DETECTOR,
    GIVEN,
    IDENTITY,
    PREDICTOR_VARIABLE,
    Detector,
    InversionSettings,
    ResolvedSettings,
)

_STEPS = 5
_ITERATIONS = 500
_DETECTOR: Detector = "hog"


@dataclass(frozen=True)
class ModelFacts:
    """What settings depend on of a model.

    Attributes:
        name: name of the model and its encoder.
        fingerprint: fingerprint of its configuration and weights.
        is_aligned: whether it was trained on aligned faces.
        domain: its domain, whose preset selects the default metrics.
        iterative: whether the encoder refines its result over several steps.
    """

    name: str
    fingerprint: str
    is_aligned: bool
    domain: str
    iterative: bool


def resolve(
    settings: InversionSettings,
    model: ModelFacts,
    dtype: Precision,
    *,
    bootstrap: tuple[str, str] | None = None,
    earlier: ResolvedSettings | None = None,
    has_landmarks: bool = False,
    identity: str | None = None,
) -> ResolvedSettings:
    """Fill in the defaults of the requested settings.

    Args:
        settings: the requested settings.
        model: the model that they are for.
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
    _check_steps(settings, model, bootstrap)
    _check_polish(settings, bootstrap)
    align = model.is_aligned if settings.align is None else settings.align
    if has_landmarks and not align:
        raise SpecError(
            f"{model.name} takes each image whole here, without faces; leave --landmarks out, or "
            "give --align"
        )
    metrics = _metrics(settings, model)
    from_average = settings.start == "average"
    encoder_steps = settings.steps or (_STEPS if model.iterative else 1) + (bootstrap is not None)
    return ResolvedSettings(
        model=model.name,
        model_fingerprint=model.fingerprint,
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
        identity=_identity(identity, metrics, model.is_aligned),
    )


def _check_steps(
    settings: InversionSettings, model: ModelFacts, bootstrap: tuple[str, str] | None
) -> None:
    if bootstrap is not None and (not model.iterative or settings.steps == 1):
        raise SpecError(
            f"the first step is {bootstrap[0]}'s, so that {model.name} needs an encoder that "
            "refines, and two steps or more"
        )
    if settings.steps not in (None, 1) and not model.iterative:
        raise SpecError(
            f"{model.name} works in a single pass; leave --steps out, or choose an encoder that "
            "refines"
        )


def _metrics(settings: InversionSettings, model: ModelFacts) -> tuple[str, ...]:
    if settings.metrics is not None:
        return settings.metrics
    return tuple(
        name
        for name in check_metrics(preset_of(model.domain).metrics)
        if model.is_aligned or not METRICS[name].needs_faces
    )


def _identity(identity: str | None, metrics: tuple[str, ...], is_aligned: bool) -> str | None:
    if identity is not None and not (is_aligned and IDENTITY in metrics):
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
    if asked is None or (asked == FORMER_DETECTOR and earlier.detector is None):
        return earlier.detector
    return asked


def _landmarks(has_landmarks: bool) -> str:
    if has_landmarks:
        return GIVEN
    named = os.environ.get(PREDICTOR_VARIABLE)
    if not named:
        return "default"
    try:
        return "sha256:" + file_sha256(Path(named))
    except CheckpointError as error:
        raise SpecError(
            f"{PREDICTOR_VARIABLE} names {named}, which cannot be read; correct or unset it"
        ) from error
