"""What a run is asked, and what it tells at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from restyle.pipeline.accounting.run_record import Asked, Command
from restyle.pipeline.accounting.summary import Summary
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.storage.filesystem import shown_uri

Executor = Literal["auto", "local", "ray"]


@dataclass(frozen=True)
class Workers:
    """Where the work is done, and by how many actors.

    Attributes:
        address: None for a Ray cluster on this machine alone that ends with the run; ``auto`` for
            the one that this machine belongs to; or ``HOST:PORT`` of its head.
        align_actors: fewest and most alignment actors; None for what suits the cluster.
        invert_actors: fewest and most inversion actors; None for what suits the cluster.
        gpus_per_actor: GPUs that each inversion actor reserves; None for 1 where the device is a
            GPU and 0 elsewhere.
        executor: ``local`` for this process, ``ray`` for a cluster; ``auto`` is ``local`` for small
            jobs that ask for nothing that only a cluster has.
    """

    address: str | None = None
    align_actors: tuple[int, int] | None = None
    invert_actors: tuple[int, int] | None = None
    gpus_per_actor: float | None = None
    executor: Executor = "auto"

    @property
    def has_actors(self) -> bool:
        """Numbers of actors are asked for, which only Ray has."""
        asked = (self.align_actors, self.invert_actors, self.gpus_per_actor)
        return any(value is not None for value in asked)

    def recorded(self) -> dict[str, Any]:
        """Where the work is done as ``run.json`` has it, without credentials."""
        fields = asdict(self)
        if self.address is not None:
            fields["address"] = shown_uri(self.address)
        return fields


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        source: ``INPUT``: a file, folder, glob, shard or list; a path or any fsspec URI.
        out: the output, a path or any fsspec URI.
        settings: what shapes the rows.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch; None for what suits the model.
        limit: plan only the first so many inputs.
        max_reject_rate: stop once more than this share of the inputs is rejected.
        input: how ``source`` is to be read.
        workers: where the work is done.
        source_is_recorded: ``source`` was read from an output, which may be a stranger's, so that
            no more is allowed to it than to an entry of a list.
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
    source_is_recorded: bool = False

    def recorded(self, command: Command = "invert") -> Asked:
        """The request as ``run.json`` has it: without user names, passwords and signatures."""
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
            **self.workers.recorded(),
        )


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        summary: the whole output, earlier runs included.
        images: inputs accounted for in this run; 0 when there was nothing to do.
        seconds: wall time of this run.
        report: where ``report.html`` is.
    """

    summary: Summary
    images: int
    seconds: float
    report: str
