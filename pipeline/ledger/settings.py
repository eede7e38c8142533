"""What shapes the rows of a run, resolved and fingerprinted: no output holds a mixture."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from restyle.core.devices.precision import Precision
from restyle.core.domains import preset_of
from restyle.core.errors import SpecError
from restyle.core.metrics.registry import METRICS, check_metrics

FacePolicy = Literal["largest", "all"]
SaveSteps = Literal["none", "metrics", "latents"]
Reconstructions = Literal["none", "last", "all"]

PREDICTOR_VARIABLE = "RESTYLE_LANDMARKS"
"""As in ``restyle.core.faces.alignment``, whose import would cost a third of a second."""

MAX_STEPS = 100
MAX_TOLERANCE = 2.0
"""As much as pixels in [-1, 1] can change."""

_STEPS = 5


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(_Frozen, ABC):
    """What shapes the rows of an output, whatever operation makes them."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over everything that shapes the rows, in hex."""

    def differences(self, earlier: Self) -> list[str]:
        """``name: then -> now`` for every field that is not as it was."""
        then, now = earlier.model_dump(mode="json"), self.model_dump(mode="json")
        return [
            f"{name}: {_brief(then[name])} -> {_brief(now[name])}"
            for name in now
            if then[name] != now[name]
        ]


class InversionSettings(_Frozen):
    """What the user asked for; None stands for the model's own default.

    Attributes:
        model: name, directory or file, with ``:encoder`` where one is chosen.
        steps: refinement steps, 1 to 100; 5 when None, 1 for a single-pass encoder.
        align: find and align faces, or take each image whole.
        faces: which faces of a photograph get rows.
        save_steps: what ``steps/`` holds of each step.
        reconstructions: which steps' images are kept.
        metrics: what is measured at each step, in the order of ``METRICS``.
        dtype: ``auto`` is bf16 where the hardware has it; ``tf32`` is a GPU's.
        tolerance: an image takes no further steps once one changes its pixels, in [-1, 1], by
            less than this on average; all steps when None.
        bootstrap: a model that takes the first step in the other's place; none when None.
    """

    model: str = "faces64"
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    align: bool | None = None
    faces: FacePolicy = "largest"
    save_steps: SaveSteps = "metrics"
    reconstructions: Reconstructions = "last"
    metrics: tuple[str, ...] | None = None
    dtype: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    tolerance: Annotated[float, Field(ge=0, le=MAX_TOLERANCE)] | None = None
    bootstrap: str | None = None

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else check_metrics(names)


class ResolvedSettings(Settings):
    """Everything that shapes the rows, with nothing left open.

    Attributes:
        format: version of the datasets' layout.
        model: name of the model and its encoder, ``faces64:restyle-psp``.
        model_fingerprint: over the model's configuration and weights.
        steps: as in :class:`InversionSettings`, and so are the following.
        landmarks: ``default``, or the checksum of the user's own landmark predictor; empty
            when nothing is aligned.
        dtype: what is computed in.
        tolerance: as above; None also where it makes no difference.
        bootstrap: name and encoder of the model that takes the first step; None without one.
        bootstrap_fingerprint: of that model.
    """

    format: Literal[2] = 2
    model: str
    model_fingerprint: str
    steps: int
    align: bool
    faces: FacePolicy
    landmarks: str
    save_steps: SaveSteps
    reconstructions: Reconstructions
    metrics: tuple[str, ...]
    dtype: Precision
    tolerance: float | None = None
    bootstrap: str | None = None
    bootstrap_fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all fields, in hex."""
        # Without what is None, so that outputs from before there was such a field keep theirs.
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
) -> ResolvedSettings:
    """Fill in what the user left open.

    Args:
        settings: what was asked for.
        model: the model's name and encoder.
        model_fingerprint: over its configuration and weights.
        aligned_domain: the model was trained on aligned faces.
        domain: what it was trained on; its preset names the metrics.
        iterative: its encoder refines, rather than working in a single pass.
        dtype: what ``auto`` came to.
        bootstrap: name and fingerprint of the model that takes the first step.

    Raises:
        SpecError: more than one step of a single-pass encoder, or nothing after a bootstrap.
    """
    if bootstrap is not None and (not iterative or settings.steps == 1):
        raise SpecError(
            f"the first step is {bootstrap[0]}'s, so that {model} needs an encoder that refines, "
            "and two steps or more"
        )
    if settings.steps not in (None, 1) and not iterative:
        raise SpecError(
            f"{model} works in a single pass; leave --steps out, or choose an encoder that refines"
        )
    align = aligned_domain if settings.align is None else settings.align
    metrics = settings.metrics
    if metrics is None:
        metrics = tuple(
            name
            for name in check_metrics(preset_of(domain).metrics)
            if aligned_domain or not METRICS[name].needs_faces
        )
    return ResolvedSettings(
        model=model,
        model_fingerprint=model_fingerprint,
        steps=settings.steps or (_STEPS if iterative else 1) + (bootstrap is not None),
        align=align,
        # The policy means nothing without alignment, so it must not make a difference there.
        faces=settings.faces if align else "largest",
        landmarks=_landmarks() if align else "",
        save_steps=settings.save_steps,
        reconstructions=settings.reconstructions,
        metrics=metrics,
        dtype=dtype,
        tolerance=settings.tolerance or None,
        bootstrap=bootstrap and bootstrap[0],
        bootstrap_fingerprint=bootstrap and bootstrap[1],
    )


def _landmarks() -> str:
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
