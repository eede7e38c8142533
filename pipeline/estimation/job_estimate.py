"""What an estimate tells of a job."""

from __future__ import annotations

from dataclasses import dataclass

from restyle.core.metrics.bootstrap import Interval
from restyle.pipeline.estimation.fleets import Fleet, Rates
from restyle.pipeline.estimation.population import Shards


@dataclass(frozen=True)
class Estimate:
    """The estimate of a job; every interval is of 95%, NaN where none can be told.

    Attributes:
        inputs: number of inputs.
        input_bytes: their bytes by their listed sizes.
        shards: those of the input, and those opened; none where all were.
        sampled: inputs that were measured.
        units: units that they were measured in.
        seed: of the drawing.
        device: that was measured on.
        here: the job on this machine, or on the cluster as it is.
        phases: seconds of planning, starting, computing and ending of ``here``; and of compiling
            kernels, which is paid once and not in the others.
        rates: what an input takes of each kind of worker.
        workers: the job by numbers of workers.
        machines: the job by machines with prices.
        currency: of the prices.
        faces: number of faces.
        rejects: number of rejects by reason.
        unseen: rejects of other reasons that there may be at most.
        written: bytes of each dataset.
        megapixels: of the sample, its 5th, 50th and 95th percentile; None if no header tells.
        others: bytes of the ledger, the run's records and the report.
        unknown: what the estimate cannot know, a sentence each.
    """

    inputs: Interval
    input_bytes: float
    shards: Shards
    sampled: int
    units: int
    seed: int
    device: str
    here: Fleet
    phases: dict[str, float]
    rates: Rates
    workers: list[Fleet]
    machines: list[Fleet]
    currency: str
    faces: Interval
    rejects: dict[str, Interval]
    unseen: float
    written: dict[str, Interval]
    others: float
    unknown: list[str]
    megapixels: tuple[float, float, float] | None = None

    @property
    def total_bytes(self) -> float:
        """Bytes of everything that is written."""
        return self.others + sum(size.value for size in self.written.values())
