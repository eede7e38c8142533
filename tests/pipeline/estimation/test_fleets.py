"""Times and prices of numbers of workers, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from restyle.core.metrics.bootstrap import Interval
from restyle.pipeline.estimation.figures import Scale
from restyle.pipeline.estimation.fleets import Fleet, Rates, machine_fleets, worker_fleets
from restyle.pipeline.estimation.prices import Machine, Prices

# A thousand inputs: 0.8 s of a core and 0.1 s of a GPU each, and 10 s besides.
GPU = Rates(
    align=Interval(0.8, 0.7, 0.9),
    invert=Interval(0.1, 0.09, 0.12),
    cores=0,
    fixed=10.0,
    scale=Scale(1000, 0.0, 50),
)
CPU = replace(GPU, invert=Interval(0.4, 0.3, 0.5), cores=2)
MACHINES = Prices(
    currency="EUR",
    machines={
        "big": Machine(price_per_hour=3.6, cores=16),
        "gpu": Machine(price_per_hour=7.2, cores=4, gpus=1),
        "dear": Machine(price_per_hour=36.0, cores=16),
    },
)


def by_name(fleets: list[Fleet]) -> dict[str, Fleet]:
    return {fleet.name: fleet for fleet in fleets}


def test_the_slower_stage_bounds_workers() -> None:
    found = by_name(list(worker_fleets(GPU, (1, 4))))
    one = found["1 align + 1 invert"]
    assert (one.bound, one.seconds.value) == ("alignment", pytest.approx(810.0))
    assert (one.seconds.low, one.seconds.high) == pytest.approx((710.0, 910.0))
    # Eight cores feed a GPU: alignment is as fast as inversion then.
    fed = found["8 align + 1 invert"]
    assert fed.seconds.value == pytest.approx(110.0)
    assert (fed.cores, fed.gpus) == (8, 1)
    assert fed.gpu_hours.value == pytest.approx(110 / 3600)
    assert fed.core_hours.value == pytest.approx(8 * 110 / 3600)
    assert found["4 align + 4 invert"].seconds.value == pytest.approx(210.0)
    assert found["32 align + 4 invert"].seconds.value == pytest.approx(35.0)


def test_machines_with_gpus_are_told_alone_and_fed_by_the_cheapest_cores() -> None:
    found = by_name(list(machine_fleets(GPU, MACHINES, (1, 2))))
    # Three of its cores align, the fourth feeds its GPU.
    alone = found["1 gpu"]
    assert (alone.bound, alone.cores, alone.gpus) == ("alignment", 4, 1)
    assert alone.seconds.value == pytest.approx(10 + 800 / 3)
    assert alone.money is not None
    assert alone.money.value == pytest.approx(7.2 * alone.seconds.value / 3600)
    fed = found["1 gpu + 1 big"]
    assert fed.seconds.value == pytest.approx(110.0)
    assert fed.money is not None
    assert fed.money.value == pytest.approx(10.8 * 110 / 3600)
    assert not any("dear" in name or name == "1 big" for name in found)


def test_stages_share_the_cores_of_machines_without_gpus() -> None:
    found = by_name(list(machine_fleets(CPU, MACHINES, (1,))))
    # Both stages on 16 cores: 0.8 s and 2 * 0.4 s of a core.
    assert found["1 big"].seconds.value == pytest.approx(10 + 1000 * 1.6 / 16)
    assert found["1 big"].money is not None
    assert "1 gpu" not in found


def test_nothing_is_told_of_gpus_that_were_not_there() -> None:
    unknown = replace(GPU, invert=None)
    assert list(worker_fleets(unknown, (1,))) == []
    assert list(machine_fleets(unknown, MACHINES, (1,))) == []


def test_inputs_that_are_all_rejected_take_nothing_of_inversion_workers() -> None:
    none = Interval(0.0, 0.0, 0.0)
    for rates in (replace(GPU, invert=none), replace(CPU, invert=none)):
        found = by_name(list(worker_fleets(rates, (1, 4))))
        assert set(found) == {"1 align + 1 invert", "4 align + 4 invert"}
        for count, fleet in zip((1, 4), found.values(), strict=True):
            assert (fleet.bound, fleet.seconds.value) == ("alignment", 10 + 800 / count)
    alone = list(machine_fleets(replace(GPU, invert=none), MACHINES, (1,)))
    assert [fleet.name for fleet in alone] == ["1 gpu"]
    cores = by_name(list(machine_fleets(replace(CPU, invert=none), MACHINES, (1,))))
    assert cores["1 big"].seconds.value == pytest.approx(10 + 800 / 16)
