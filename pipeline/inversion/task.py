"""Validate a request to invert images against its output, without Ray and mostly without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from restyle.core.devices.precision import Precision
from restyle.core.errors import SpecError
from restyle.core.networks.config import EncoderKind, absolute_spec, file_sha256, with_domain
from restyle.pipeline.accounting.operation import own_settings
from restyle.pipeline.accounting.run_record import Asked, Command, Described, as_begun
from restyle.pipeline.execution.placement import choose, threads_here
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.execution.task import Task
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.model_identity import ModelIdentity, identify
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.ledger.datasets import datasets_of
from restyle.pipeline.ledger.manifest import MAX_UNIT
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import GIVEN, InversionSettings, ResolvedSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.defaults import resolve
from restyle.pipeline.planning.input_plan import InputPlan, check_sizes, plan_input
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.addresses import absolute_uri
from restyle.pipeline.storage.filesystem import Storage

TUNED_UNIT = 8
"""Maximum number of inputs in a unit whose faces get generators of their own.

A generator of the published size is 60 MB, and a unit is in memory until it is written.
"""


@dataclass(frozen=True)
class InversionTask(Task):
    """A request to invert images, validated against its output.

    Attributes:
        request: the user's request.
        output: output of the inversion.
        model: identity of the model.
        settings: settings that determine the rows.
        earlier: settings recorded in the output; None if it is new.
        device: requested device.
        workers: placement of the workers.
        dtype: dtype of the computation.
        dtype_reason: the dtype and the reason for it.
        max_reject_rate: share of rejects above which the run stops.
    """

    operation = INVERSION
    command: ClassVar[Command] = "invert"

    request: Request
    output: Output
    model: ModelIdentity
    settings: ResolvedSettings
    earlier: ResolvedSettings | None
    device: str
    workers: Workers
    dtype: Precision
    dtype_reason: str
    max_reject_rate: float

    @classmethod
    def of(cls, request: Request) -> Self:
        """Validate a request before anything is listed or written.

        Raises:
            SpecError: the model or device does not exist, or the output was made with other
                settings.
            FatalError: a file cannot be read.
        """
        output = Output.at(request.out)
        earlier = own_settings(output.storage, INVERSION)
        model, settings, reason = _resolved(request, output.storage, earlier)
        if earlier is not None and earlier.fingerprint != settings.fingerprint:
            if output.entries.units or any(map(output.storage.sizes, datasets_of(earlier))):
                raise SpecError(
                    f"{output.storage.uri} was made with other settings "
                    f"({'; '.join(settings.differences(earlier))}); choose another --out, or the "
                    "settings it was made with"
                )
            model, settings, reason = _resolved(request, output.storage, None)
        return cls(
            request=request,
            output=output,
            model=model,
            settings=settings,
            earlier=earlier,
            device=request.device,
            workers=request.workers,
            dtype=settings.dtype,
            dtype_reason=reason,
            max_reject_rate=request.max_reject_rate,
        )

    @property
    def most_in_unit(self) -> int:
        """Maximum number of inputs in a unit."""
        return MAX_UNIT if self.settings.pivotal is None else TUNED_UNIT

    @property
    def input_plan(self) -> InputPlan:
        """The request to plan the input."""
        request = self.request
        return InputPlan(
            request.source,
            request.out,
            request.input,
            request.limit,
            opens_remote=True,
            most=self.most_in_unit,
        )

    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        """List the input and plan what no plan contains yet.

        Raises:
            SpecError: pending units have more inputs than these settings allow.
        """
        check_sizes(self.output, self.most_in_unit)
        return plan_input(self.input_plan, planned_inputs, listener, before_first)

    def job(self, device: str, images: float) -> InversionJob:
        """Return the job description for the workers."""
        # Imported late: a run without pending units does not need these slow imports.
        from restyle.pipeline.decoding.crops import CropSettings
        from restyle.pipeline.inversion.stages import stages_of

        request, settings = self.request, self.settings
        bootstrap = request.settings.bootstrap
        return InversionJob(
            source=absolute_uri(request.source),
            out=self.output.address,
            model=self._spec(),
            settings=settings,
            crop=CropSettings.of(
                self.model.config,
                settings.align,
                settings.faces,
                settings.searched_by,
                has_landmarks=settings.landmarks == GIVEN,
            ),
            device=device,
            batch_size=request.batch_size,
            threads=threads_here(),
            bootstrap=None if bootstrap is None else absolute_spec(bootstrap),
            identity_weights=_absolute(request.settings.identity_weights),
            policy=UrlPolicy(
                request.input.allow_private_urls,
                "" if request.source_is_recorded else request.source,
            ),
            stages=stages_of(settings.align, request.batch_size, images),
        )

    def title(self) -> str:
        """Return the model's name and steps, and the inferred domain of a published checkpoint."""
        title = f"{self.model.name}, {self.settings.steps_shown}"
        reason = self.model.domain_reason
        return f"{title}, {self.model.config.for_what(reason)}" if reason else title

    def _spec(self) -> str:
        """Return the model specification for workers and later commands."""
        spec = self.request.settings.model
        if self.model.domain_reason:
            spec = with_domain(spec, self.model.config.domain)
        return absolute_spec(spec)

    def asked(self) -> Asked:
        """Return the request as recorded."""
        return self.request.recorded(self.command)

    def described(self) -> Described:
        """Return the description of the model, steps, reconstructions and metrics."""
        settings, wanted = self.settings, self.request.settings
        first = {} if wanted.bootstrap is None else {"bootstrap": absolute_spec(wanted.bootstrap)}
        if weights := _absolute(wanted.identity_weights):
            first["identity_weights"] = weights
        return Described(
            operation="inversion",
            model=self.model.described(self._spec()) | first,
            steps=settings.steps,
            reconstructions=settings.reconstructions,
            metrics=settings.metrics,
        )


def _bootstrap(spec: str | None, model: ModelIdentity) -> tuple[str, str] | None:
    """Return name and fingerprint of the first step's model, checked for compatibility."""
    if spec is None:
        return None
    first = identify(spec)
    for field in ("image_size", "framing_scale", "framing_shift", "align"):
        one, other = getattr(first.config, field), getattr(model.config, field)
        if one != other:
            raise SpecError(
                f"{model.name} cannot go on from {first.name}: {field} is {other} here and {one} "
                "there; where one is a published checkpoint, --domain, or :DOMAIN behind its name, "
                "says what it is for"
            )
    return first.name, first.fingerprint


def _resolved(
    request: Request, storage: Storage, earlier: ResolvedSettings | None
) -> tuple[ModelIdentity, ResolvedSettings, str]:
    """Return the model, the settings that determine the rows, and the reason for their dtype.

    The dtype that "auto" selected first applies to the whole output, whichever machine continues
    it; so does the inferred domain of a model that does not state its own.
    """
    spec = request.settings.model
    model = identify(spec if earlier is None else as_begun(storage, spec))
    _check_encoder(model, request.settings)
    dtype, reason = _precision(request, earlier)
    settings = resolve(
        request.settings,
        model.facts,
        dtype,
        bootstrap=_bootstrap(request.settings.bootstrap, model),
        earlier=earlier,
        has_landmarks=_has_landmarks(request, earlier),
        identity=_identity(request.settings.identity_weights),
    )
    return model, settings, reason


def _check_encoder(model: ModelIdentity, settings: InversionSettings) -> None:
    """Refuse to give every image the average latent of a generator without an encoder."""
    kind = model.config.encoders[model.encoder].kind
    if kind is EncoderKind.AVERAGE and not settings.polish and settings.start is None:
        raise SpecError(
            f"{model.config.name} is a generator without an encoder; optimise from its average "
            "latent, by --polish N or by `restyle optimize`, or attach an encoder: `restyle "
            "convert` takes --encoder"
        )


def _identity(weights: str | None) -> str | None:
    """Return name and checksum of the face recogniser that the user names."""
    if weights is None:
        return None
    # Imported late: only this option needs torch here.
    from restyle.core.faces.arcface import load_recogniser

    path = Path(weights)
    return f"{load_recogniser(path).name} {file_sha256(path)}"


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _has_landmarks(request: Request, earlier: ResolvedSettings | None) -> bool:
    if request.source_is_recorded:
        # A retry takes them from the manifest.
        return earlier is not None and earlier.landmarks == GIVEN
    return request.input.landmarks is not None


def _precision(request: Request, earlier: ResolvedSettings | None) -> tuple[Precision, str]:
    asked = request.settings.dtype
    if asked == "auto" and earlier is not None:
        return earlier.dtype, f"{earlier.dtype}: as this output was begun"
    if asked != "auto":
        return asked, f"{asked}: asked for"
    placement = choose(asked, request.device, request.workers)
    return placement.dtype, placement.reason
