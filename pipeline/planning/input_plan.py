"""Plan an ``INPUT``: list it, and add its new and changed inputs to the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from restyle.core.errors import SpecError
from restyle.core.shown_text import plural
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.operation import operations, own_settings
from restyle.pipeline.ledger.manifest import MAX_UNIT, Origin
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned, Planner
from restyle.pipeline.planning.seen_before import seen_before
from restyle.pipeline.sources import SourceReader, iter_images
from restyle.pipeline.sources.given_landmarks import GivenLandmarks, read_landmarks
from restyle.pipeline.sources.lists.opening import Checks, Opens
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.filesystem import absolute_path, local_path, shown_uri
from restyle.pipeline.storage.lock import driver_lock


@dataclass(frozen=True)
class InputPlan:
    """A request to plan an ``INPUT``.

    Attributes:
        source: ``INPUT``, a path or any fsspec URI.
        out: Path or URI of the output.
        input: Options for reading ``source``.
        limit: Maximum number of inputs to take, in listing order; None for all.
        opens_remote: Whether the first remote entries of a list are opened as a check.
        most: Maximum number of inputs in a unit.
    """

    source: str
    out: str
    input: InputOptions
    limit: int | None = None
    opens_remote: bool = False
    most: int = MAX_UNIT


@dataclass(frozen=True)
class PlanOutcome:
    """Result of :func:`plan_only`.

    Attributes:
        planned: Inputs and units added by this call.
        images: Number of inputs in the whole manifest; each revision counts.
        units: Number of units in the whole manifest.
        pending: Number of inputs in units that are not committed.
    """

    planned: Planned
    images: int
    units: int
    pending: int


def plan_only(asked: InputPlan, listener: Listener) -> PlanOutcome:
    """Write the manifest alone, without settings; no model is loaded.

    Args:
        asked: the request.
        listener: receives notes and the number of inputs found.

    Raises:
        SpecError: the output belongs to another operation, another run is using it, or pending
            units have more inputs than asked for.
        SpecError, FatalError, TransientError: the input cannot be planned; see :func:`plan_input`.
    """
    output = Output.at(asked.out)
    own_settings(output.storage, operations()["inversion"])
    with driver_lock(output.storage, listener):
        planned_inputs = PlannedInputs.read(output)
        check_units(output)
        check_sizes(output, asked.most)
        planned = plan_input(asked, planned_inputs, listener)
    units, done = output.manifest.units, output.entries.units
    return PlanOutcome(
        planned,
        images=sum(unit.images for unit in units),
        units=len(units),
        pending=sum(unit.images for unit in units if unit.name not in done),
    )


def check_sizes(output: Output, most: int) -> None:
    """Check the sizes of planned units: ``restyle plan`` knows no settings that limit them.

    Args:
        output: the output.
        most: maximum number of inputs in a unit that is not committed.

    Raises:
        SpecError: a unit is larger.
    """
    done = output.entries.units
    large = sum(unit.images > most and unit.name not in done for unit in output.manifest.units)
    if large:
        raise SpecError(
            f"{output.storage.uri}: {plural(large, 'planned unit')} "
            f"{'has' if large == 1 else 'have'} more than {most} inputs, the most whose results "
            "these settings keep in memory; choose another --out, and leave its plan to this "
            "command"
        )


def plan_input(
    asked: InputPlan,
    planned_inputs: PlannedInputs,
    listener: Listener,
    before_first: Callable[[], None] = lambda: None,
) -> Planned:
    """Add new and changed inputs to an output's manifest. The caller must hold the driver's lock.

    Args:
        asked: the request.
        planned_inputs: index of the output's manifest; updated with the added inputs.
        listener: receives notes and the number of inputs found.
        before_first: called once, before the first plan file is written.

    Raises:
        SpecError: the input is not usable; the plan files written by this call are removed.
        FatalError: the input cannot be listed, or the output cannot be written.
        TransientError: a store still failed after all retries; plan files already written stay.
    """
    origin = Origin(_full(asked.source), asked.input.column or "")
    planner = Planner(planned_inputs, origin, listener, before_first)
    earlier = len(planned_inputs.manifest.plans)
    try:
        checks = _checks(asked, planned_inputs)
        landmarks = _landmarks(asked)
        # A container whose inputs are planned is opened again for their landmarks.
        holds = planned_inputs.holds if landmarks is None else _holds_none
        batches = iter_images(asked.source, asked.out, asked.input, holds, listener.noted, checks)
        planned = planner.plan(
            batches if landmarks is None else landmarks.given(batches), asked.limit, asked.most
        )
        if landmarks is not None:
            landmarks.check_matched()
    except SpecError:
        for name in planned_inputs.manifest.plans[earlier:]:
            planned_inputs.manifest.storage.delete(name)
        raise
    if forgotten := planned_inputs.forgotten():
        listener.noted(f"{plural(forgotten, 'input')} passed over, because forgotten")
    for line in notes(planned, shown_uri(asked.source)):
        listener.noted(line)
    has_others = any(each.input not in ("", origin.input) for each in planned_inputs.origins)
    if planned.new and has_others:
        line = seen_before(planned_inputs.manifest, planned.written, origin.input)
        if line:
            listener.noted(line)
    return planned


def _landmarks(asked: InputPlan) -> GivenLandmarks | None:
    if asked.input.landmarks is None:
        return None
    return read_landmarks(asked.input.landmarks, allow_private_urls=asked.input.allow_private_urls)


def _holds_none(_uri: bytes, _version: str) -> bool:
    return False


def _checks(asked: InputPlan, planned_inputs: PlannedInputs) -> Checks:
    opens: Opens | None = None
    if asked.opens_remote:
        policy = UrlPolicy(asked.input.allow_private_urls, asked.source)
        opens = SourceReader(asked.source, policy).open
    return Checks(
        lambda image_id: planned_inputs.revision(image_id) > 0, looks_at_lists=True, opens=opens
    )


def notes(planned: Planned, source: str) -> Iterator[str]:
    """Yield notes for the user about changed and vanished inputs."""
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
