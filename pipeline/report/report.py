"""``report.html`` of an inversion, generated from the files of the output alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from restyle.core.errors import FatalError
from restyle.core.metrics.registry import Metric, title_of
from restyle.pipeline.accounting.operation import bound_to
from restyle.pipeline.accounting.run_record import RunRecord, read_run
from restyle.pipeline.accounting.summary import worsened_in, worsened_shown
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.report.change_maps import colour_ramp
from restyle.pipeline.report.curves import HEIGHT as CURVE_HEIGHT
from restyle.pipeline.report.curves import WIDTH as CURVE_WIDTH
from restyle.pipeline.report.curves import Curve, Drawing, draw, read_curves, text
from restyle.pipeline.report.gallery import FaceStrip, Gallery, key_of, read_gallery
from restyle.pipeline.report.html import render_page
from restyle.pipeline.report.ranking import Ranking, read_ranking
from restyle.pipeline.report.rejects import (
    REASONS,
    Reject,
    read_rejects,
    reasons_of,
    with_thumbnails,
)
from restyle.pipeline.results.snapshot import snapshot_of
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.storage.filesystem import Storage


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

    At most :data:`~restyle.pipeline.report.gallery.MAX_FACES` faces, the worst few by each metric
    and :data:`~restyle.pipeline.report.rejects.MAX_REJECTS` rejects are shown, whatever the size of
    the output.

    Args:
        output: the output.
        settings: settings of the output; None to read them.

    Returns:
        The path or URI of the report.

    Raises:
        FatalError: the output contains no run, or one of its files is damaged.
        TransientError: the storage failed in a way that may be temporary.
    """
    storage = output.storage
    settings = settings or _settings_in(storage)
    storage.write(REPORT_FILE, render(collect(output, settings)))
    return storage.shown(REPORT_FILE)


@dataclass(frozen=True, eq=False)
class Contents:
    """What is on the page, read from the output.

    Attributes:
        uri: of the output, without secrets.
        settings: of the output.
        records: entries of the committed units.
        run: record of the last run; None if there is none.
        curves: metrics over the steps.
        ranking: the worst faces and the medians.
        gallery: pictures of faces.
        rejects: the first rejected inputs.
    """

    uri: str
    settings: ResolvedSettings
    records: Sequence[UnitRecord]
    run: RunRecord | None
    curves: Sequence[Curve]
    ranking: Ranking
    gallery: Gallery
    rejects: Sequence[Reject]


def collect(output: Output, settings: ResolvedSettings) -> Contents:
    """Read what the page shows.

    Raises:
        FatalError: a file of the output is damaged.
    """
    storage, out = output.storage, output.address
    files = output.sets()
    records = [record for each in files for record in each.units]
    run, snapshot = read_run(storage), snapshot_of(output, settings)
    # What another model drew is not meant to equal the photograph, so that no metric ranks it.
    is_drawn = settings.bootstrap is not None
    ranking = Ranking((), (), 0, is_whole=True) if is_drawn else read_ranking(snapshot)
    worst = [place for each in ranking.worst for place in each.places]
    return Contents(
        uri=storage.uri,
        settings=settings,
        records=records,
        run=run,
        curves=[] if is_drawn else read_curves(out, records, settings.rows, files),
        ranking=ranking,
        gallery=read_gallery(out, files, special=worst, stands=snapshot.stands),
        rejects=with_thumbnails(output, read_rejects(out, files)),
    )


def _settings_in(storage: Storage) -> ResolvedSettings:
    bound = bound_to(storage)
    if bound is None or not isinstance(bound[1], ResolvedSettings):
        raise FatalError(f"{storage.uri} holds no run: there is no _ledger/settings.json")
    return bound[1]


def render(contents: Contents) -> bytes:
    """Render the page as UTF-8 HTML; all values are escaped."""
    settings, run, gallery = contents.settings, contents.run, contents.gallery
    strips = [*gallery.strips, *gallery.special.values()]
    reasons = reasons_of(contents.records)
    prefix = common_folder(
        [strip.source for strip in strips] + [reject.source for reject in contents.rejects]
    )
    medians = [
        Figure(text(value), f"median {metric.title}") for metric, value in contents.ranking.medians
    ]
    values = {
        "uri": contents.uri,
        "title": title_of_data(run, contents.uri),
        "settings": settings,
        "facts": [*_facts(settings, run), *facts_of(contents.records, run)],
        "figures": [*figures_of(contents.records), *medians],
        "charts": [Chart(curve, draw(curve)) for curve in contents.curves],
        "chart_size": (CURVE_WIDTH, CURVE_HEIGHT),
        "gallery": gallery,
        "ranking": contents.ranking,
        "worst": _worst_strips(contents),
        "face_count": gallery.faces,
        "ramp": ", ".join(colour_ramp()),
        "rejects": contents.rejects,
        "reject_total": sum(reasons.values()),
        "reasons": reasons.most_common(),
        "reason_names": REASONS,
        "prefix": prefix,
        "run": run.model_dump_json(indent=2) if run else "",
        "notice": notice(run),
        "own_steps": [
            name for step in range(1, settings.rows + 1) if (name := settings.step_name(step))
        ],
        "worsened": worsened_shown(
            worsened_in(contents.records), sum(record.faces for record in contents.records)
        ),
        "finished": finished(run),
    }
    template = "report.html.j2" if settings.bootstrap is None else "toonify.html.j2"
    return render_page(template, values, number=text, title_of=title_of)


def _worst_strips(contents: Contents) -> list[tuple[Metric, list[FaceStrip]]]:
    """The worst faces by metric, as far as their pictures were kept."""
    special = contents.gallery.special
    rows = [
        (each.metric, [special[key] for place in each.places if (key := key_of(place)) in special])
        for each in contents.ranking.worst
    ]
    return [(metric, strips) for metric, strips in rows if strips]


def title_of_data(run: RunRecord | None, uri: str) -> str:
    """Return the last part of the name of ``INPUT``; of the output, if that is unknown."""
    whole = (run.asked.source if run is not None else "") or uri
    return whole.rstrip("/").rpartition("/")[2] or whole


def figures_of(records: Sequence[UnitRecord]) -> list[Figure]:
    """Return the number of images, faces and rejects of an output."""
    images = sum(record.images - record.dropped for record in records)
    faces = sum(record.faces for record in records)
    rejects = sum(sum(record.rejects.values()) for record in records)
    return [
        Figure(f"{images:,}", "image" if images == 1 else "images"),
        Figure(f"{faces:,}", "face" if faces == 1 else "faces"),
        Figure(f"{rejects:,}", "rejected", f"{rejects / images:.1%}" if rejects else ""),
    ]


def facts_of(records: Sequence[UnitRecord], run: RunRecord | None) -> list[tuple[str, str]]:
    """Return the work of the whole output, and the speed of the last run."""
    facts = []
    work = sum(record.wall_seconds for record in records)
    if work:
        facts.append(("Work of all workers", _duration(work)))
    if run is not None and run.timings.seconds:
        facts.append(("Last run", _duration(run.timings.seconds)))
    if run is not None and run.timings.images_per_second:
        facts.append(("Its images per second", text(run.timings.images_per_second)))
    return facts


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
    if settings.optimized or settings.pivotal:
        return settings.steps_shown
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
