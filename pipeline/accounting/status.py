"""The status of an output, from its manifest, ledger and ``run.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restyle.core.errors import SpecError
from restyle.core.shown_text import plural
from restyle.pipeline.accounting.findings import check_units, lost_files
from restyle.pipeline.accounting.operation import Operation, bound_to, operations
from restyle.pipeline.accounting.run_record import read_run
from restyle.pipeline.accounting.run_state import RunState, run_state
from restyle.pipeline.accounting.summary import Summary, summarise
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.manifest import read_units
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import ResolvedSettings, Settings
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.storage.claim import read_claims
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.storage.marks import marked_as


@dataclass(frozen=True)
class Status:
    """Result of :func:`read_status`.

    Attributes:
        out: Path or URI of the output, without credentials.
        operation: What made the output.
        settings: Settings of the output.
        summary: Counts and metric means.
        run: What became of the last run; None if its record is missing or damaged.
        driver: Process that uses the output now, or is about to; empty if there is none.
        report: Path or URI of ``report.html``; None if there is none.
        damage: One line about missing files and the remedy; empty if no file is missing.
    """

    out: str
    operation: Operation[Any]
    settings: Settings
    summary: Summary
    run: RunState | None
    driver: str
    report: str | None
    damage: str = ""


def read_status(out: str) -> Status:
    """Read the status of an output.

    Args:
        out: the output, a path or any fsspec URI.

    Raises:
        SpecError: there is no output at ``out``.
        FatalError: a file of the output is damaged or cannot be read.
    """
    output = Output.at(out)
    storage = output.storage
    operation, settings = bound_of(storage)
    check_units(output)
    # The claims before the ledger: a run that ends meanwhile has written its record.
    claims = read_claims(storage)
    summary, record = summarise(output), read_run(storage)
    report = storage.shown(REPORT_FILE) if REPORT_FILE in storage.sizes("") else None
    damage = lost_files(output)
    return Status(
        out=storage.uri,
        operation=operation,
        settings=settings,
        summary=summary,
        run=None if record is None else run_state(record, claims, summary.pending_images),
        driver=next((str(claim) for claim in claims if claim.lives), ""),
        report=report,
        damage=damage,
    )


def bound_of(storage: Storage) -> tuple[Operation[Any], Settings]:
    """Return the operation and the settings of an existing output.

    Raises:
        SpecError: the storage holds no output, or one without a run.
        FatalError: see :func:`restyle.pipeline.accounting.operation.bound_to`.
    """
    # Without settings, settings_of raises an error that says what the storage holds instead.
    return bound_to(storage) or (operations()["inversion"], settings_of(storage))


def settings_of(storage: Storage) -> ResolvedSettings:
    """Return the settings of an existing inversion output.

    Raises:
        SpecError: the storage holds no output, one without a run, or edits.
        FatalError: see :func:`restyle.pipeline.accounting.operation.bound_to`.
    """
    bound = bound_to(storage)
    settings = None if bound is None else bound[1]
    if bound is not None and not isinstance(settings, ResolvedSettings):
        raise SpecError(
            f"{storage.uri} holds {bound[0].holds}, which restyle status, verify and query take; "
            "correct OUT"
        )
    if settings is None and (units := read_units(storage)):
        images = sum(unit.images for unit in units)
        raise SpecError(
            f"{storage.uri} is planned ({plural(images, 'input')}) but nothing was run yet; "
            "start with restyle invert"
        )
    if settings is None and (held := marked_as(storage)):
        raise SpecError(f"{storage.uri} holds {held}, no output of a run; correct OUT")
    if not isinstance(settings, ResolvedSettings):
        raise SpecError(
            f"{storage.uri} holds no output of restyle (it has no {ledger.SETTINGS_FILE}); "
            "correct OUT"
        )
    return settings
