"""The estimate of a job: time, money, bytes and rejects, and what it cannot know."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, field, replace

import numpy as np

from restyle.core.metrics.bootstrap import Interval
from restyle.pipeline.estimation.figures import (
    Scale,
    per_input,
    reject_counts,
    unseen,
)
from restyle.pipeline.estimation.fleets import (
    Fleet,
    Rates,
    Stage,
    machine_fleets,
    worker_fleets,
)
from restyle.pipeline.estimation.job_estimate import Estimate
from restyle.pipeline.estimation.measurement import (
    PART,
    UNITS,
    Effort,
    Measurement,
    measure,
    on_existing_device,
)
from restyle.pipeline.estimation.not_known import not_known
from restyle.pipeline.estimation.population import (
    Population,
    list_population,
    population_of,
)
from restyle.pipeline.estimation.prices import Prices
from restyle.pipeline.estimation.sample_run import UnitCost
from restyle.pipeline.estimation.written import dataset_bytes, other_bytes
from restyle.pipeline.execution.executor import Engine
from restyle.pipeline.execution.placement import threads_here
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import plan_only

COUNTS = (1, 4, 16)
"""Numbers of workers and of machines that are told."""


@dataclass(frozen=True)
class Wanted:
    """What to tell, and how much to measure for it.

    Attributes:
        effort: how much to measure.
        prices: of machines; None if unknown.
        counts: numbers of workers and machines to tell the time of.
    """

    effort: Effort = field(default_factory=Effort)
    prices: Prices | None = None
    counts: tuple[int, ...] = COUNTS


def estimate(
    request: Request, wanted: Wanted, listener: Listener, engine: Engine | None = None
) -> Estimate:
    """Estimate a job that is begun anew. Nothing is written to ``request.out``.

    Args:
        request: the job.
        wanted: what to tell.
        listener: receives notes and progress.
        engine: as for :func:`restyle.pipeline.inversion.run.invert_images`.

    Raises:
        SpecError, FatalError, TransientError: as the job itself would fail.
        Interrupted: the user pressed Ctrl-C.
    """
    existing = on_existing_device(request)
    with tempfile.TemporaryDirectory(prefix="restyle-estimate-") as folder:
        # Faults of the model and of options are told before the input is listed.
        asked = InversionTask.of(replace(existing, out=folder)).input_plan
        population = list_population(asked, wanted.effort.seed, listener)
        return _estimated(request, existing, population, wanted, listener, engine)


def estimate_planned(
    request: Request, wanted: Wanted, listener: Listener, engine: Engine | None = None
) -> Estimate:
    """Plan a job, and estimate what is pending in its manifest.

    Args:
        request: the job; its manifest is written to ``request.out``.
        wanted: what to tell.
        listener: receives notes and progress.
        engine: as for :func:`restyle.pipeline.inversion.run.invert_images`.

    Raises:
        SpecError: no input is pending, or as the job itself would fail.
        FatalError, TransientError: as the job itself would fail.
        Interrupted: the user pressed Ctrl-C.
    """
    existing = on_existing_device(request)
    task = InversionTask.of(existing)
    started = time.perf_counter()
    plan_only(task.input_plan, listener)
    seconds = time.perf_counter() - started
    population = replace(population_of(Output.at(request.out)), seconds=seconds)
    # The output's own choice where the request leaves one open.
    own = {"dtype": task.dtype, "detector": task.settings.detector}
    existing = replace(existing, settings=existing.settings.model_copy(update=own))
    return _estimated(request, existing, population, wanted, listener, engine)


def _estimated(
    request: Request,
    existing: Request,
    population: Population,
    wanted: Wanted,
    listener: Listener,
    engine: Engine | None,
) -> Estimate:
    before = os.getloadavg()[0]
    measured = measure(existing, population, wanted.effort, listener, engine)
    run, units = measured.run, measured.run.units
    scale = Scale(population.inputs, population.spread, run.images)
    fixed = population.seconds + measured.starting + run.ending
    is_missing = existing.device != request.device
    rates = _rates(request, measured, scale, fixed, is_missing)
    prices = wanted.prices
    made = Estimate(
        inputs=scale.total(Interval(1.0, 1.0, 1.0)),
        input_bytes=population.known_bytes,
        shards=population.shards,
        sampled=run.images,
        units=len(units),
        seed=wanted.effort.seed,
        device=run.device,
        here=_here(request, measured, scale, fixed),
        phases={
            "planning": population.seconds,
            "starting": measured.starting,
            "computing": measured.each * scale.inputs,
            "ending": run.ending,
            "compiling": measured.compiling,
        },
        rates=rates,
        workers=list(worker_fleets(rates, wanted.counts)),
        machines=list(machine_fleets(rates, prices, wanted.counts)) if prices else [],
        currency=prices.currency if prices else "",
        faces=scale.counted(per_input((unit.faces for unit in units), units)),
        rejects=reject_counts(units, scale),
        unseen=unseen(scale),
        written=dataset_bytes(population, measured.run, scale),
        others=other_bytes(population, measured, scale),
        unknown=[],
        megapixels=_percentiles(measured.megapixels),
    )
    unknown = list(not_known(request, made, population, wanted.effort, before))
    return replace(made, unknown=unknown)


def _cores(request: Request, measured: Measurement) -> int:
    """Cores of an inversion worker without a GPU."""
    return 0 if measured.run.device == "cuda" else threads_here()


def _rates(
    request: Request, measured: Measurement, scale: Scale, fixed: float, is_missing: bool
) -> Rates:
    units, cores = _steady(measured), _cores(request, measured)
    busy = sum(unit.align + unit.invert * cores for unit in units)
    # Stages that share cores count the time in which the other has them.
    share = 1.0
    if request.workers.address is None and busy:
        images = sum(unit.images for unit in units)
        share = min(1.0, threads_here() * measured.each * images / busy)
    inverting = per_input((share * unit.invert for unit in units), units)
    return Rates(
        align=per_input((share * unit.align for unit in units), units),
        invert=None if is_missing else inverting,
        cores=cores,
        fixed=fixed,
        scale=scale,
    )


def _steady(measured: Measurement) -> tuple[UnitCost, ...]:
    """Units of the sample without the first ones, in which the workers warm up."""
    units = measured.run.units
    return units[len(units) // PART :] if len(units) >= UNITS else units


def _here(request: Request, measured: Measurement, scale: Scale, fixed: float) -> Fleet:
    """The job by what measured it: its seconds for each input, with those of its units' spread."""
    run, units, cores = measured.run, _steady(measured), _cores(request, measured)
    align = sum(unit.align for unit in units)
    invert = sum(unit.invert for unit in units)
    mean = per_input([unit.align + unit.invert * max(cores, 1) for unit in units], units)
    factor = measured.each / mean.value if mean.value else 0.0
    mean = Interval(measured.each, mean.low * factor, mean.high * factor)
    bound: Stage = "inversion"
    if align / threads_here() > invert * (1 if cores else 1 / run.workers):
        bound = "alignment"
    is_cluster = request.workers.address is not None
    return Fleet(
        "this cluster" if is_cluster else "this machine",
        scale.total(mean, plus=fixed),
        bound,
        threads_here(),
        0 if cores else run.workers,
    )


def _percentiles(values: list[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    low, middle, high = np.percentile(values, (5, 50, 95))
    return float(low), float(middle), float(high)
