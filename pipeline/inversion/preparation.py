"""Before a run: what the request comes to in this output, decided without Ray and mostly torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from restyle.core.devices.precision import Precision
from restyle.core.errors import SpecError
from restyle.core.networks.config import absolute_spec
from restyle.pipeline.accounting.status import bound_settings
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.execution.placement import choose
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.model_identity import ModelIdentity, identify
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import DATASETS
from restyle.pipeline.ledger.settings import ResolvedSettings, resolve
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.addresses import absolute_uri
from restyle.pipeline.storage.filesystem import Storage, open_storage


@dataclass(frozen=True)
class Preparation:
    """A request, resolved against its output.

    Attributes:
        storage: the output.
        model: the model that is meant.
        settings: what shapes the rows.
        earlier: the settings that stand in the output; None when it is new.
        dtype_reason: the dtype and why.
    """

    storage: Storage
    model: ModelIdentity
    settings: ResolvedSettings
    earlier: ResolvedSettings | None
    dtype_reason: str

    @property
    def is_begun(self) -> bool:
        """The output is bound to these settings already."""
        return self.earlier == self.settings


def prepare(request: Request) -> Preparation:
    """Look at everything that can be wrong before anything is written or listed.

    Raises:
        SpecError: no such model or device; or the output was made with other settings.
        FatalError: something cannot be read.
    """
    storage = open_storage(request.out)
    earlier = bound_settings(storage)
    if isinstance(earlier, EditSettings):
        raise SpecError(f"{storage.uri} holds edits; choose another --out")
    model = identify(request.settings.model)
    committed = ledger.committed(storage)
    # What "auto" came to once holds for the whole output, on whatever machine it is continued.
    bound = earlier if earlier is not None and _is_used(storage, committed) else None
    dtype, reason = _precision(request, bound)
    settings = resolve(
        request.settings,
        model=model.name,
        model_fingerprint=model.fingerprint,
        aligned_domain=model.config.align,
        domain=model.config.domain,
        iterative=model.iterative,
        dtype=dtype,
        bootstrap=_bootstrap(request.settings.bootstrap, model),
    )
    if bound is not None and bound.fingerprint != settings.fingerprint:
        raise SpecError(
            f"{storage.uri} was made with other settings "
            f"({'; '.join(settings.differences(bound))}); choose another --out, or the settings "
            "it was made with"
        )
    return Preparation(storage, model, settings, earlier, reason)


def job_of(request: Request, prepared: Preparation, device: str, images: float) -> InversionJob:
    """What the workers are told.

    Args:
        request: the run's.
        prepared: the same, resolved.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        images: mean number of images in a unit.
    """
    # Here, because a run with nothing to do need not wait for these.
    from restyle.pipeline.decoding.crops import CropSettings
    from restyle.pipeline.inversion.stages import stages_of

    settings = prepared.settings
    bootstrap = request.settings.bootstrap
    return InversionJob(
        source=absolute_uri(request.source),
        out=absolute_uri(request.out),
        model=absolute_spec(request.settings.model),
        settings=settings,
        crop=CropSettings.of(prepared.model.config, settings.align, settings.faces),
        device=device,
        batch_size=request.batch_size,
        threads=threads_here(),
        bootstrap=None if bootstrap is None else absolute_spec(bootstrap),
        policy=UrlPolicy(
            request.input.allow_private_urls, "" if request.source_is_recorded else request.source
        ),
        stages=stages_of(settings.align, request.batch_size, images),
    )


def _bootstrap(spec: str | None, model: ModelIdentity) -> tuple[str, str] | None:
    """Name and fingerprint of the model that takes the first step, once it is known to fit."""
    if spec is None:
        return None
    first = identify(spec)
    for field in ("image_size", "framing_scale", "framing_shift", "align"):
        one, other = getattr(first.config, field), getattr(model.config, field)
        if one != other:
            raise SpecError(
                f"{model.name} cannot go on from {first.name}: {field} is {other} here and {one} "
                "there"
            )
    return first.name, first.fingerprint


def threads_here() -> int:
    """Cores that this process may use, or what the user set for numerical libraries."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else len(os.sched_getaffinity(0))


def _is_used(storage: Storage, committed: set[str]) -> bool:
    """Whether any rows depend on the settings that stand there."""
    return bool(committed) or any(storage.sizes(dataset) for dataset in DATASETS)


def _precision(request: Request, bound: ResolvedSettings | None) -> tuple[Precision, str]:
    asked = request.settings.dtype
    if asked == "auto" and bound is not None:
        return bound.dtype, f"{bound.dtype}: as this output was begun"
    if asked != "auto":
        return asked, f"{asked}: asked for"
    placement = choose(asked, request.device, request.workers)
    return placement.dtype, placement.reason
