"""The request for a run, and its outcome."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from restyle.pipeline.accounting.run_record import Asked, Command
from restyle.pipeline.accounting.summary import Summary
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.monitoring.monitor import Monitoring
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.storage.filesystem import shown_uri

Executor = Literal["auto", "local", "ray"]


@dataclass(frozen=True)
class Workers:
    """Executor, cluster and numbers of actors of a run.

    Attributes:
        address: ``HOST:PORT`` of a Ray cluster's head; ``auto`` for the cluster that this machine
            belongs to; None for a local cluster that ends with the run.
        align_actors: Minimum and maximum number of alignment actors; None to fit the cluster.
        invert_actors: Minimum and maximum number of inversion actors; None to fit the cluster.
        gpus_per_actor: GPUs reserved by each inversion actor; None for 1 on a GPU device, else 0.
        executor: ``local`` for this process or ``ray`` for a cluster; ``auto`` selects ``local``
            for small jobs without options that need a cluster.
    """

    address: str | None = None
    align_actors: tuple[int, int] | None = None
    invert_actors: tuple[int, int] | None = None
    gpus_per_actor: float | None = None
    executor: Executor = "auto"

    @property
    def has_actors(self) -> bool:
        """Whether numbers of actors or GPUs are requested, which need Ray."""
        asked = (self.align_actors, self.invert_actors, self.gpus_per_actor)
        return any(value is not None for value in asked)

    def recorded(self) -> dict[str, Any]:
        """Return the fields for ``run.json``, without credentials."""
        fields = asdict(self)
        if self.address is not None:
            fields["address"] = shown_uri(self.address)
        return fields


@dataclass(frozen=True)
class Request:
    """Request for an inversion.

    Attributes:
        source: ``INPUT``, a file, folder, glob, shard or list; a path or any fsspec URI.
        out: Output, a path or any fsspec URI.
        settings: Settings that determine the rows.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: Faces per batch; None for the model's default.
        limit: Maximum number of inputs to plan, in listing order; None for all.
        max_reject_rate: Share of rejected inputs, 0 to 1, above which the run stops.
        input: Options for reading ``source``.
        workers: Executor, cluster and numbers of actors.
        monitoring: How the run is watched.
        source_is_recorded: Whether ``source`` was read from an output. Such an output may come from
            an untrusted party, so ``source`` gets only the permissions of a list entry.
    """

    source: str
    out: str
    settings: InversionSettings
    device: str = "auto"
    batch_size: int | None = None
    limit: int | None = None
    max_reject_rate: float = 1.0
    input: InputOptions = field(default_factory=InputOptions)
    workers: Workers = field(default_factory=Workers)
    monitoring: Monitoring = field(default_factory=Monitoring)
    source_is_recorded: bool = False

    def recorded(self, command: Command = "invert") -> Asked:
        """Return the options for ``run.json``, without user names, passwords and signatures."""
        return Asked(
            source=shown_uri(self.source),
            out=shown_uri(self.out),
            limit=self.limit,
            device=self.device,
            batch_size=self.batch_size,
            max_reject_rate=self.max_reject_rate,
            command=command,
            input_format=self.input.format,
            column=self.input.column,
            landmarks=None if self.input.landmarks is None else shown_uri(self.input.landmarks),
            **self.workers.recorded(),
        )


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        summary: Summary of the whole output, including earlier runs.
        images: Number of inputs processed by this run, rejects included; 0 if none was pending.
        seconds: Wall time of this run in seconds.
        report: Path or URI of ``report.html``.
    """

    summary: Summary
    images: int
    seconds: float
    report: str
