"""Workers of each kind: how long the job takes with so many, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from restyle.core.metrics.bootstrap import Interval
from restyle.pipeline.estimation.figures import Scale
from restyle.pipeline.estimation.prices import Machine, Prices

Stage = Literal["alignment", "inversion"]

_HOUR = 3600.0


@dataclass(frozen=True)
class Rates:
    """What an input takes of each kind of worker.

    Attributes:
        align: seconds of one core, which is an alignment worker.
        invert: seconds of an inversion worker; None if there was none like those of the job.
        cores: cores of an inversion worker without a GPU; 0 of one with a GPU.
        fixed: seconds that a run takes besides: planning, start and report.
        scale: from the sample to the whole.
    """

    align: Interval
    invert: Interval | None
    cores: int
    fixed: float
    scale: Scale

    @property
    def gpus(self) -> int:
        """GPUs of an inversion worker."""
        return 0 if self.cores else 1

    def feeding(self) -> float | None:
        """Alignment workers that one inversion worker takes the crops of; None if it took none."""
        if self.invert is None or not self.invert.value:
            return None
        return self.align.value / self.invert.value


@dataclass(frozen=True)
class Fleet:
    """Machines or workers, and the job done by them.

    Attributes:
        name: what there is.
        seconds: of the job.
        bound: the stage that bounds it.
        cores: number of cores.
        gpus: number of GPUs.
        price_per_hour: of all of it; None if unknown.
        aligners: number of alignment workers.
        inverters: number of inversion workers.
    """

    name: str
    seconds: Interval
    bound: Stage
    cores: int
    gpus: int
    price_per_hour: float | None = None
    aligners: int | None = None
    inverters: int | None = None

    @property
    def core_hours(self) -> Interval:
        """Cores times hours."""
        return _times(self.seconds, self.cores / _HOUR)

    @property
    def gpu_hours(self) -> Interval:
        """GPUs times hours."""
        return _times(self.seconds, self.gpus / _HOUR)

    @property
    def money(self) -> Interval | None:
        """Price of the hours."""
        price = self.price_per_hour
        return None if price is None else _times(self.seconds, price / _HOUR)


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def worker_fleets(rates: Rates, counts: Sequence[int]) -> Iterator[Fleet]:
    """So many workers of each kind, and so many inversion workers with alignment that keeps up.

    Nothing where the speed of inversion workers is unknown.
    """
    if rates.invert is None:
        return
    feeding = rates.feeding()
    for count in counts:
        aligners = {count} if feeding is None else {count, max(1, math.ceil(count * feeding))}
        for each in sorted(aligners):
            yield _fleet(rates, f"{each} align + {count} invert", each, count)


def machine_fleets(rates: Rates, prices: Prices, counts: Sequence[int]) -> Iterator[Fleet]:
    """Priced machines, alone, and those with GPUs beside the cheapest cores that keep them busy."""
    plain = [item for item in prices.machines.items() if not item[1].gpus]
    cheapest = min(plain, key=lambda item: item[1].price_per_hour / item[1].cores, default=None)
    for name, machine in prices.machines.items():
        for count in counts:
            yield from _of_machine(rates, name, machine, count)
            if machine.gpus and cheapest is not None:
                yield from _fed(rates, (name, machine), cheapest, count)


def _of_machine(rates: Rates, name: str, machine: Machine, count: int) -> Iterator[Fleet]:
    price = count * machine.price_per_hour
    if rates.invert is None:
        return
    if machine.gpus and rates.gpus:
        # Each inversion worker has a core that feeds its GPU.
        free = max(1, machine.cores - machine.gpus)
        yield _fleet(
            rates, f"{count} {name}", count * free, count * machine.gpus, price,
            count * machine.cores,
        )  # fmt: skip
    elif not machine.gpus and not rates.gpus:
        yield _shared(rates, f"{count} {name}", count * machine.cores, price)


def _fed(
    rates: Rates, with_gpus: tuple[str, Machine], plain: tuple[str, Machine], count: int
) -> Iterator[Fleet]:
    (name, machine), (other, cpus) = with_gpus, plain
    feeding = rates.feeding()
    if feeding is None or not rates.gpus:
        return
    inverters, own = count * machine.gpus, count * max(0, machine.cores - machine.gpus)
    more = math.ceil((inverters * feeding - own) / cpus.cores)
    if more > 0:
        yield _fleet(
            rates,
            f"{count} {name} + {more} {other}",
            own + more * cpus.cores,
            inverters,
            count * machine.price_per_hour + more * cpus.price_per_hour,
            count * machine.cores + more * cpus.cores,
        )


def _fleet(
    rates: Rates,
    name: str,
    aligners: int,
    inverters: int,
    price: float | None = None,
    cores: int | None = None,
) -> Fleet:
    """Workers of both kinds that work at the same time: the slower stage bounds them."""
    assert rates.invert is not None  # noqa: S101 (the callers looked)
    of_stage: dict[Stage, Interval] = {
        "alignment": _times(rates.align, 1 / aligners),
        "inversion": _times(rates.invert, 1 / inverters),
    }
    bound = max(of_stage, key=lambda stage: of_stage[stage].value)
    return Fleet(
        name,
        rates.scale.total(of_stage[bound], plus=rates.fixed),
        bound,
        aligners + inverters * rates.cores if cores is None else cores,
        inverters * rates.gpus,
        price,
        aligners,
        inverters,
    )


def _shared(rates: Rates, name: str, cores: int, price: float) -> Fleet:
    """Machines without GPUs, whose cores both stages share."""
    assert rates.invert is not None  # noqa: S101 (the callers looked)
    invert = _times(rates.invert, rates.cores)
    both = Interval(
        (rates.align.value + invert.value) / cores,
        (rates.align.low + invert.low) / cores,
        (rates.align.high + invert.high) / cores,
    )
    bound: Stage = "alignment" if rates.align.value > invert.value else "inversion"
    return Fleet(name, rates.scale.total(both, plus=rates.fixed), bound, cores, 0, price)
