"""Planning an input as a request names it: the listing goes in, the manifest comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from restyle.core.errors import SpecError
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.operation import operations, own_settings
from restyle.pipeline.ledger.manifest import Origin
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned, Planner
from restyle.pipeline.planning.seen_before import seen_before
from restyle.pipeline.sources import SourceReader, iter_images
from restyle.pipeline.sources.lists.opening import Checks, Opens
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.filesystem import absolute_path, local_path, shown_uri
from restyle.pipeline.storage.lock import driver_lock


@dataclass(frozen=True)
class InputPlan:
    """What is to be planned.

    Attributes:
        source: ``INPUT``.
        out: the output's path or URI.
        input: how ``source`` is to be read.
        limit: take only the first so many inputs.
        opens_remote: of a list whose entries lie elsewhere, some of the first are opened.
    """

    source: str
    out: str
    input: InputOptions
    limit: int | None = None
    opens_remote: bool = False


@dataclass(frozen=True)
class PlanOutcome:
    """What :func:`plan_only` came to.

    Attributes:
        planned: what was added.
        images: inputs in the whole manifest, each revision for itself.
        units: units in the whole manifest.
        pending: inputs in units that are not done.
    """

    planned: Planned
    images: int
    units: int
    pending: int


def plan_only(asked: InputPlan, listener: Listener) -> PlanOutcome:
    """Write the manifest and nothing else: no settings, no model.

    Raises:
        SpecError, FatalError, TransientError: as :func:`plan_input`.
        SpecError: another run works on the output.
    """
    output = Output.at(asked.out)
    own_settings(output.storage, operations()["inversion"])
    with driver_lock(output.storage, listener):
        planned_inputs = PlannedInputs.read(output)
        check_units(output)
        planned = plan_input(asked, planned_inputs, listener)
    units, done = output.manifest.units, output.entries.units
    return PlanOutcome(
        planned,
        images=sum(unit.images for unit in units),
        units=len(units),
        pending=sum(unit.images for unit in units if unit.name not in done),
    )


def plan_input(
    asked: InputPlan,
    planned_inputs: PlannedInputs,
    listener: Listener,
    before_first: Callable[[], None] = lambda: None,
) -> Planned:
    """Bring the manifest of an output up to date with its input. The driver's lock must be held.

    Args:
        asked: the input.
        planned_inputs: the output's manifest; what is added is added here too.
        listener: is told how many inputs were found.
        before_first: is called once, before anything is written.

    Raises:
        SpecError: the input cannot be what is meant; what was planned of it is taken back.
        FatalError: the input cannot be listed or the output cannot be written.
        TransientError: a store failed for longer than it was waited for; what is planned is kept.
    """
    origin = Origin(_full(asked.source), asked.input.column or "")
    planner = Planner(planned_inputs, origin, listener, before_first)
    earlier = len(planned_inputs.manifest.plans)
    try:
        checks = _checks(asked, planned_inputs)
        batches = iter_images(
            asked.source, asked.out, asked.input, planned_inputs.holds, listener.noted, checks
        )
        planned = planner.plan(batches, asked.limit)
    except SpecError:
        for name in planned_inputs.manifest.plans[earlier:]:
            planned_inputs.manifest.storage.delete(name)
        raise
    for line in notes(planned, shown_uri(asked.source)):
        listener.noted(line)
    has_others = any(each.input not in ("", origin.input) for each in planned_inputs.origins)
    if planned.new and has_others:
        line = seen_before(planned_inputs.manifest, planned.written, origin.input)
        if line:
            listener.noted(line)
    return planned


def _checks(asked: InputPlan, planned_inputs: PlannedInputs) -> Checks:
    opens: Opens | None = None
    if asked.opens_remote:
        policy = UrlPolicy(asked.input.allow_private_urls, asked.source)
        opens = SourceReader(asked.source, policy).open
    return Checks(
        lambda image_id: planned_inputs.revision(image_id) > 0, looks_at_lists=True, opens=opens
    )


def notes(planned: Planned, source: str) -> Iterator[str]:
    """What a person should hear of: inputs that changed, and inputs that are gone."""
    if planned.changed:
        one = planned.changed == 1
        yield (
            f"{planned.changed} {'input has' if one else 'inputs have'} changed since "
            f"{'it was' if one else 'they were'} planned; {'it gets' if one else 'they get'} new "
            "rows with a higher revision"
        )
    if planned.vanished:
        one = planned.vanished == 1
        more = ", ..." if planned.vanished > len(planned.gone) else ""
        yield (
            f"{planned.vanished} planned {'input is' if one else 'inputs are'} no longer in "
            f"{source} ({', '.join(planned.gone)}{more}); {'its' if one else 'their'} rows stay"
        )


def _full(source: str) -> str:
    path = local_path(source)
    return shown_uri(source if path is None else absolute_path(path))
