"""``report.html`` of an inversion, generated from the files of the output alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from restyle.core.errors import FatalError
from restyle.core.metrics.registry import title_of
from restyle.pipeline.accounting.operation import bound_to
from restyle.pipeline.accounting.run_record import RunRecord, read_run
from restyle.pipeline.ledger.datasets import REJECTS
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import HasFiles, file_of, open_parquet
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.report.change_maps import colour_ramp
from restyle.pipeline.report.curves import HEIGHT as CURVE_HEIGHT
from restyle.pipeline.report.curves import WIDTH as CURVE_WIDTH
from restyle.pipeline.report.curves import Curve, Drawing, draw, read_curves, text
from restyle.pipeline.report.gallery import Gallery, read_gallery
from restyle.pipeline.report.html import render_page
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.storage.filesystem import Storage

MAX_REJECTS = 200

REASONS = {
    "empty": "empty file",
    "not_an_image": "not an image",
    "unsupported_format": "format that is not read",
    "truncated": "damaged or cut off",
    "too_large": "too many pixels",
    "too_small": "too small",
    "animated": "several frames",
    "unsupported_mode": "unsupported kind of pixels",
    "no_face": "no face found",
    "turned_away": "face turned too far",
    "no_landmarks": "no landmarks in the file",
    "bad_landmarks": "unusable landmarks",
    "landmarks_outside": "landmarks outside of it",
    "unreadable": "cannot be read",
    "crashed": "crashed the decoder",
    "timed_out": "took too long",
    "damaged_archive": "in a damaged archive",
    "unsupported_archive": "in an unsupported archive",
    "duplicate_name": "name stands twice",
    "unsafe_name": "unsafe name",
}
"""Display names of reject reasons."""


@dataclass(frozen=True)
class Reject:
    """A row of ``rejects/``."""

    source: str
    stage: str
    reason: str
    message: str


@dataclass(frozen=True)
class Figure:
    """A summary number with its label and an optional remark."""

    value: str
    label: str
    remark: str = ""


@dataclass(frozen=True)
class Chart:
    """A curve with the layout of its drawing."""

    curve: Curve
    drawing: Drawing


def write_report(output: Output, settings: ResolvedSettings | None = None) -> str:
    """Write ``report.html`` into an output, from the units committed so far.

    At most :data:`~restyle.pipeline.report.gallery.MAX_FACES` faces and :data:`MAX_REJECTS` rejects
    are read and shown, whatever the size of the output.

    Args:
        output: the output.
        settings: settings of the output; None to read them.

    Returns:
        The path or URI of the report.

    Raises:
        FatalError: the output contains no run, or one of its files is damaged.
        TransientError: the storage failed in a way that may be temporary.
    """
    storage, out = output.storage, output.address
    settings = settings or _settings_in(storage)
    files = output.sets()
    records = [record for each in files for record in each.units]
    page = render(
        uri=storage.uri,
        settings=settings,
        records=records,
        run=read_run(storage),
        curves=read_curves(out, records, settings.rows, files),
        gallery=read_gallery(out, files),
        rejects=read_rejects(out, files),
    )
    storage.write(REPORT_FILE, page)
    return storage.shown(REPORT_FILE)


def _settings_in(storage: Storage) -> ResolvedSettings:
    bound = bound_to(storage)
    if bound is None or not isinstance(bound[1], ResolvedSettings):
        raise FatalError(f"{storage.uri} holds no run: there is no _ledger/settings.json")
    return bound[1]


def render(
    *,
    uri: str,
    settings: ResolvedSettings,
    records: Sequence[UnitRecord],
    run: RunRecord | None,
    curves: Sequence[Curve],
    gallery: Gallery,
    rejects: Sequence[Reject],
) -> bytes:
    """Render the page as UTF-8 HTML; all values are escaped."""
    prefix = common_folder(
        [strip.source for strip in gallery.strips] + [reject.source for reject in rejects]
    )
    reasons = reasons_of(records)
    values = {
        "uri": uri,
        "settings": settings,
        "facts": _facts(settings, run),
        "figures": figures_of(records, run),
        "charts": [Chart(curve, draw(curve)) for curve in curves],
        "chart_size": (CURVE_WIDTH, CURVE_HEIGHT),
        "gallery": gallery,
        "face_count": gallery.faces,
        "ramp": ", ".join(colour_ramp()),
        "rejects": rejects,
        "reject_total": sum(reasons.values()),
        "reasons": reasons.most_common(),
        "reason_names": REASONS,
        "prefix": prefix,
        "run": run.model_dump_json(indent=2) if run else "",
        "notice": notice(run),
        "finished": finished(run),
    }
    return render_page("report.html.j2", values, number=text, title_of=title_of)


def read_rejects(out: str, records: Sequence[HasFiles], most: int = MAX_REJECTS) -> list[Reject]:
    """Return the first rejects of a run, in the order of its units."""
    rejects: list[Reject] = []
    for record in records:
        file = file_of(record, REJECTS)
        if file is None:
            continue
        with open_parquet(out, file[0]) as parquet:
            columns = ["source", "stage", "reason", "message"]
            for batch in parquet.iter_batches(most, columns=columns, use_threads=False):
                rejects += [Reject(**row) for row in batch.to_pylist()]
                if len(rejects) >= most:
                    return rejects[:most]
    return rejects


def reasons_of(records: Sequence[UnitRecord]) -> Counter[str]:
    """Count rejects by reason."""
    reasons = Counter[str]()
    for record in records:
        reasons.update(record.rejects)
    return reasons


def figures_of(records: Sequence[UnitRecord], run: RunRecord | None) -> list[Figure]:
    """Return the number of images, faces and rejects of an output, and the last run's speed."""
    images = sum(record.images - record.dropped for record in records)
    faces = sum(record.faces for record in records)
    rejects = sum(sum(record.rejects.values()) for record in records)
    figures = [
        Figure(f"{images:,}", "image" if images == 1 else "images"),
        Figure(f"{faces:,}", "face" if faces == 1 else "faces"),
        Figure(f"{rejects:,}", "rejected", f"{rejects / images:.1%}" if rejects else ""),
    ]
    if run is not None and run.timings.images_per_second:
        figures.append(Figure(text(run.timings.images_per_second), "images per second"))
    if run is not None and run.timings.seconds:
        figures.append(Figure(_duration(run.timings.seconds), "last run"))
    return figures


def _facts(settings: ResolvedSettings, run: RunRecord | None) -> list[tuple[str, str]]:
    faces = "every face" if settings.faces == "all" else "the largest face"
    facts = [
        ("Model", settings.model),
        ("Steps", _steps(settings)),
        ("Precision", run.dtype_reason if run else settings.dtype),
        (
            "Alignment",
            f"on, {faces}, found by {settings.searched_by}"
            if settings.align
            else "off, images taken whole",
        ),
    ]
    if run is not None:
        facts.append(("Device", f"{run.device}, {run.machine.get('cores', '?')} cores"))
        if run.kernels:
            facts.append(("Operators", run.kernels))
        facts.append(("Version", run.versions.get("restyle-pipeline", "unknown")))
    return [*facts, ("Settings", settings.fingerprint[:12])]


def _steps(settings: ResolvedSettings) -> str:
    if settings.polish is not None:
        return f"{settings.steps}, then a polish of {settings.polish}"
    if settings.tolerance is None:
        return str(settings.steps)
    return f"up to {settings.steps}, until a step changes less than {settings.tolerance:g}"


def notice(run: RunRecord | None) -> str:
    """Return a sentence about an incomplete run; empty for a complete one."""
    if run is None or (run.state == "complete" and not run.counts.pending_images):
        return ""
    done = run.counts.images - run.counts.pending_images
    state = {"running": "had not ended", "interrupted": "was interrupted", "failed": "failed"}
    sentence = (
        f"The run {state.get(run.state, 'is not finished')}: {done:,} of {run.counts.images:,} "
        "inputs are done. The same command again continues."
    )
    return f"{sentence} {run.error}" if run.error else sentence


def finished(run: RunRecord | None) -> str:
    """Return when the last run ended, formatted for display; its start if it has not ended."""
    return "" if run is None else _moment(run.timings.finished or run.timings.started)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _moment(value: str) -> str:
    try:
        return datetime.fromisoformat(value).strftime("%d %B %Y, %H:%M %Z").strip()
    except ValueError:
        return ""


def common_folder(sources: Sequence[str]) -> str:
    """Return the common folder of all sources with its slash, which captions leave out."""
    if len(sources) < 2:
        return sources[0].rpartition("/")[0] + "/" if sources and "/" in sources[0] else ""
    first, last = min(sources), max(sources)
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:same].rpartition("/")[0] + "/" if "/" in first[:same] else ""
