"""What an estimate cannot know, said in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator

from restyle.core.shown_text import are, plural
from restyle.pipeline.estimation.figures import LEAST_UNITS
from restyle.pipeline.estimation.job_estimate import Estimate
from restyle.pipeline.estimation.measurement import Effort
from restyle.pipeline.estimation.population import Population
from restyle.pipeline.execution.placement import threads_here
from restyle.pipeline.execution.request import Request
from restyle.pipeline.storage.addresses import local_path

WIDE = 0.2
"""Relative half width of an interval above which a sample counts as too small."""

_BUSY = 0.25
"""Load of a core, from others, above which a machine counts as busy."""


def not_known(
    request: Request, made: Estimate, population: Population, effort: Effort, load: float
) -> Iterator[str]:
    """Yield what an estimate cannot know, a sentence each.

    Args:
        request: the job, on the device that was asked for.
        made: the estimate.
        population: the inputs.
        effort: how much was measured.
        load: mean number of busy threads of this machine before the measurement.
    """
    yield from _of_the_sample(made, population)
    yield from _of_machines(request, made, load)
    if unlisted := int((population.sizes < 0).sum()):
        yield f"the listing does not tell how large {plural(unlisted, 'input')} {are(unlisted)}"
    scratch = effort.scratch
    if local_path(request.out) is None and (scratch is None or local_path(scratch) is not None):
        yield (
            "how long writing to the store of the output takes: the sample's rows were written to "
            "a disk; give --scratch a URI in that store to measure it"
        )


def _of_the_sample(made: Estimate, population: Population) -> Iterator[str]:
    time, inputs = made.here.seconds, round(made.inputs.value)
    is_whole = made.rates.scale.is_whole
    if not math.isfinite(population.spread):
        yield (
            f"how many inputs there are: one of {plural(population.shards.found, 'shard')} was "
            "opened, and every interval depends on the others"
        )
    elif made.units < LEAST_UNITS and is_whole:
        yield (
            f"an interval: {plural(inputs, 'input')} {are(inputs)} too few, all were measured, and "
            "starting takes most of the time"
        )
    elif made.units < LEAST_UNITS:
        yield (
            f"an interval: a sample of {plural(made.sampled, 'input')} is too small; give a larger "
            "--sample, or more --seconds"
        )
    elif (wide := (time.high - time.low) / 2 / time.value) > WIDE:
        yield (
            f"the time to better than {wide:.0%}: the sample is too small; give a larger --sample, "
            "or more --seconds"
        )
    if made.unseen and not made.rejects:
        yield (
            f"whether any input is rejected: none of the sample was, and up to {made.unseen:,.0f} "
            f"of {inputs:,} may be"
        )


def _of_machines(request: Request, made: Estimate, load: float) -> Iterator[str]:
    if made.rates.invert is None:
        yield (
            f"hours and money of inversion on GPUs: there is no {request.device} to measure on, "
            "and the times are those of this machine's CPU; estimate on a machine with a GPU, or "
            "on a cluster with --address"
        )
    elif made.device == "cpu":
        yield (
            "hours and money of workers with GPUs: there is no GPU to measure on; estimate on a "
            "machine with one, or on a cluster with --address"
        )
    if not made.currency:
        yield "money: there are no prices; give --prices FILE, such as examples/prices.toml"
    elif not made.machines:
        yield f"money: no machine of --prices computes on {made.device}, which was measured"
    cores = threads_here()
    if request.workers.address is None and load > _BUSY * cores:
        yield (
            "the time on this machine when it is idle: it was busy before the measurement (load "
            f"{load:.1f} on {plural(cores, 'core')}), and the times are those of a machine shared "
            "like this"
        )
