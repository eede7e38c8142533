"""The report of fabricated outputs: what stands in it, what is escaped, what is not read."""

from __future__ import annotations

import base64
import html.parser
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from restyle.core.errors import FatalError
from restyle.core.shown_text import visible
from restyle.pipeline.accounting.run_record import (
    Asked,
    Counts,
    RunRecord,
    Timings,
    read_run,
    write_run,
)
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger import datasets, parquet_files
from restyle.pipeline.ledger.entries import (
    MetricSums,
    UnitRecord,
    WrittenFile,
    commit,
)
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.report import curves, gallery
from restyle.pipeline.report.curves import Curve, draw, read_curves, text
from restyle.pipeline.report.gallery import read_gallery
from restyle.pipeline.report.report import write_report
from restyle.pipeline.results.faces import read_faces
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline.fabricated import Made, redo
from tests.pipeline.fabricated import fabricate as whole_run
from tests.pipeline.in_process import in_process
from tests.tiny_model import make_tiny_model

Paint = Callable[[int, int], Image.Image]
"""Face number and step to its picture."""

METRICS = ("l2", "lpips", "id_similarity")
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "\"quotes' & ampersands.jpg",
    "two\nlines\tand a tab.jpg",
    "right\u202eto left.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "x" * 251 + ".jpg",
]


def noise(face: int, step: int) -> Image.Image:
    """A picture that depends on both; later steps come nearer to step 0."""
    target = np.random.default_rng(face).integers(60, 200, (16, 16, 3))
    off = 40 // step if step else 0
    return Image.fromarray(np.clip(target + off, 0, 255).astype(np.uint8))


@dataclass
class Fabrication:
    """What a fabricated output holds."""

    sources: Sequence[str]
    steps: int = 3
    units: int = 1
    metrics: tuple[str, ...] = METRICS
    save_steps: str = "metrics"
    reconstructions: str = "all"
    rejects: Sequence[tuple[str, str, str, str]] = ()
    paint: Paint = noise
    state: str | None = "complete"
    bootstrap: str | None = None


def fabricate(out: Path, what: Fabrication) -> list[UnitRecord]:
    """Write an output as ``architecture.md`` describes it, without computing anything."""
    storage = open_storage(str(out))
    settings = ResolvedSettings(
        model="faces64:restyle-psp",
        model_fingerprint="ab" * 32,
        steps=what.steps,
        align=True,
        faces="all",
        landmarks="default",
        save_steps=what.save_steps,  # type: ignore[arg-type]
        reconstructions=what.reconstructions,  # type: ignore[arg-type]
        metrics=what.metrics,
        dtype="fp32",
        bootstrap=what.bootstrap,
        bootstrap_fingerprint=what.bootstrap and "cd" * 32,
    )
    INVERSION.write_settings(storage, settings)
    records = []
    parts = np.array_split(np.arange(len(what.sources)), what.units)
    for number, part in enumerate(parts):
        rejects = what.rejects if number == 0 else ()
        tables = _tables([int(face) for face in part], rejects, what)
        files = []
        for dataset, rows in tables.items():
            if rows:
                table = pa.Table.from_pylist(rows, datasets.schema(dataset, settings, (4, 8)))
                data = datasets.encode(table)
                name = f"{dataset}/part-{number:06d}-{settings.fingerprint[:8]}.parquet"
                storage.write(name, data)
                files.append(WrittenFile(name=name, rows=len(rows), size=len(data), sha256="0"))
        reasons: dict[str, int] = {}
        for _, _, reason, _ in rejects:
            reasons[reason] = reasons.get(reason, 0) + 1
        sums = {
            name: MetricSums(
                total=tuple(
                    sum(value(name, int(face), step) for face in part)
                    for step in range(1, what.steps + 1)
                ),
                count=(len(part),) * what.steps,
            )
            for name in what.metrics
        }
        record = UnitRecord(
            unit=f"{number:06d}",
            fingerprint=settings.fingerprint,
            images=len(part) + len(rejects),
            faces=len(part),
            rejects=reasons,
            files=tuple(files),
            metrics=sums,
            seconds={},
        )
        commit(storage, record)
        records.append(record)
    if what.state is not None:
        write_run(storage, _run(what, settings))
    return records


def _run(what: Fabrication, settings: ResolvedSettings) -> RunRecord:
    images = len(what.sources) + len(what.rejects)
    return RunRecord(
        state=what.state,  # type: ignore[arg-type]
        asked=Asked(
            source="/in",
            out="/out",
            limit=None,
            device="auto",
            batch_size=None,
            max_reject_rate=0.5,
        ),
        settings=settings.model_dump(mode="json"),
        fingerprint=settings.fingerprint,
        model={"name": "faces64"},
        device="cpu",
        dtype="fp32",
        dtype_reason="fp32: no bf16 in this processor",
        steps=what.steps,
        reconstructions=what.reconstructions,
        metrics=list(what.metrics),
        counts=Counts(
            units=what.units,
            pending_units=0,
            images=images,
            pending_images=0 if what.state == "complete" else 1,
            faces=len(what.sources),
            rejected=len(what.rejects),
            rejects={},
        ),
        timings=Timings(
            started="2026-11-22T20:14:45+00:00",
            finished="2026-11-22T20:15:00+00:00",
            seconds=14.6,
            images=images,
            images_per_second=3.24,
        ),
        versions={"restyle-pipeline": "0.1.0"},
        machine={"cores": 2},
    )


def value(name: str, face: int, step: int) -> float:
    """A metric that gets better with every step, by an amount that differs between faces."""
    fall = (0.06 if name == "l2" else 0.3) * (0.6**step + 0.4) * (1 + 0.3 * np.sin(face))
    return float(1 - fall if name in ("id_similarity", "ms_ssim") else fall)


def _tables(
    faces: Sequence[int], rejects: Sequence[tuple[str, str, str, str]], what: Fabrication
) -> dict[str, list[dict[str, object]]]:
    latents, steps, images = [], [], []
    for face in faces:
        identity = {
            "image_id": f"id{face:04d}",
            "revision": 1,
            "face": 0,
            "source": what.sources[face],
        }
        last = {name: value(name, face, what.steps) for name in what.metrics}
        latents.append(
            identity
            | {"latent": [0.0] * 32, "quad": [0.0] * 8, "steps": what.steps, "model": "m"}
            | last
        )
        for step in range(1, what.steps + 1):
            measured = {name: value(name, face, step) for name in what.metrics}
            steps.append(identity | {"step": step, "delta": 0.3 * 0.5**step} | measured)
        kept = {"all": range(what.steps + 1), "last": (0, what.steps), "none": ()}
        for step in kept[what.reconstructions]:
            buffer = io.BytesIO()
            what.paint(face, step).save(buffer, "PNG")
            images.append(identity | {"step": step, "format": "png", "image": buffer.getvalue()})
    return {
        "latents": latents,
        "steps": [] if what.save_steps == "none" else steps,
        "reconstructions": images,
        "rejects": [
            {
                "image_id": f"reject{index}",
                "revision": 1,
                "source": source,
                "stage": stage,
                "reason": reason,
                "message": message,
            }
            for index, (source, stage, reason, message) in enumerate(rejects)
        ],
    }


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


def page_of(out: Path) -> Page:
    shown = write_report(Output.at(str(out)))
    assert shown == str(out / "report.html")
    return Page((out / "report.html").read_text(encoding="utf-8"))


def test_every_face_with_its_steps_and_maps(tmp_path: Path) -> None:
    fabricate(tmp_path, Fabrication(["/in/a.jpg", "/in/b.jpg"], steps=3))
    page = page_of(tmp_path)
    assert page.tags.count("li") == 2
    # Input, three steps, and the difference of each of them from the input: for each of two faces.
    assert page.tags.count("img") == 2 * (1 + 3 + 3)
    assert "a.jpg" in page.words
    assert "/in/a.jpg" not in page.words


@pytest.mark.parametrize(("faces", "said"), [(1, "The only one."), (3, "All 3 of them.")])
def test_where_all_faces_are_shown_it_says_so(tmp_path: Path, faces: int, said: str) -> None:
    fabricate(tmp_path, Fabrication([f"/in/{number}.jpg" for number in range(faces)]))
    assert said in " ".join(page_of(tmp_path).words.split())


def test_summary_numbers(tmp_path: Path) -> None:
    rejects = [("c.jpg", "decode", "empty", "the file is empty")]
    fabricate(tmp_path, Fabrication(["a.jpg", "b.jpg", "b.jpg"], rejects=rejects))
    words = " ".join(page_of(tmp_path).words.split())
    for phrase in ("images 4", "faces 3", "rejected 1 25.0%", "per second 3.24", "run 14.6 s"):
        assert phrase in words
    assert "fp32: no bf16 in this processor" in words
    assert "22 November 2026, 20:15 UTC" in words


def test_hostile_names_are_text(tmp_path: Path) -> None:
    rejects = [(name, "decode", "truncated", f"cannot read {name}") for name in HOSTILE]
    fabricate(tmp_path, Fabrication(HOSTILE, rejects=rejects))
    page = page_of(tmp_path)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>.jpg" in page.words
    assert "\"quotes' & ampersands.jpg" in page.words
    assert r"two\nlines\tand a tab.jpg" in page.words
    assert r"right\u202eto left.jpg" in page.words
    assert "{{ 7 * 7 }}{% raw %}.jpg" in page.words
    assert "\u202e" not in page.words


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    fabricate(tmp_path, Fabrication(["a.jpg"]))
    page = page_of(tmp_path)
    links = [value for name, value in page.attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\(", (tmp_path / "report.html").read_text())
    ids = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_faces_are_chosen_evenly_and_the_rest_is_counted(tmp_path: Path) -> None:
    names = [f"{index:03d}.jpg" for index in range(200)]
    fabricate(tmp_path, Fabrication(names, steps=1, units=10))
    page = page_of(tmp_path)
    # Three faces that are worst by each of three metrics stand before the sample.
    assert page.tags.count("li") == gallery.MAX_FACES + 3 * 3
    assert "140 are not shown" in page.words
    sample = page.words.partition("A sample")[2]
    shown = sorted({int(name) for name in re.findall(r"(\d{3})\.jpg", sample)})
    assert max(np.diff(shown)) <= 12


def test_only_what_is_shown_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{index}.jpg" for index in range(120)]
    records = fabricate(tmp_path, Fabrication(names, steps=1, units=20))
    monkeypatch.setattr(gallery, "MAX_UNITS", 4)
    monkeypatch.setattr(curves, "MAX_UNITS", 5)
    opened: list[str] = []
    original = parquet_files._open

    def counted(out: str, name: str) -> object:
        opened.append(name)
        return original(out, name)

    monkeypatch.setattr(parquet_files, "_open", counted)
    shown = read_gallery(str(tmp_path), records)
    assert len(shown.strips) == 4 * 6
    assert len(opened) == 2 * 4
    opened.clear()
    read_curves(str(tmp_path), records, 1)
    assert len(opened) == 5


def test_a_small_budget_still_shows_whole_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = fabricate(tmp_path, Fabrication([f"{i}.jpg" for i in range(20)], steps=3))
    monkeypatch.setattr(gallery, "READ_BUDGET", 1)
    shown = read_gallery(str(tmp_path), records)
    assert len(shown.strips) == 1
    assert [frame.step for frame in shown.strips[0].frames] == [0, 1, 2, 3]


def test_last_step_only(tmp_path: Path) -> None:
    fabricate(tmp_path, Fabrication(["a.jpg"], reconstructions="last"))
    page = page_of(tmp_path)
    # The input, the result, and their difference.
    assert page.tags.count("img") == 3
    assert "after step 3" in page.words


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (Fabrication([]), "No face has been inverted yet"),
        (Fabrication(["a.jpg"], reconstructions="none"), "without keeping pictures"),
        (Fabrication(["a.jpg"]), "None: every input gave at least one face"),
        (Fabrication([], state=None), "no input has been looked at"),
        (Fabrication(["a.jpg"], state="interrupted"), "The run was interrupted: 0 of 1 inputs"),
        (
            Fabrication([], rejects=[("a.jpg", "decode", "empty", "the file is empty")]),
            "every input so far was rejected",
        ),
    ],
)
def test_empty_states(tmp_path: Path, what: Fabrication, sentence: str) -> None:
    fabricate(tmp_path, what)
    assert sentence in page_of(tmp_path).words


def test_curves_are_quantiles_of_the_rows(tmp_path: Path) -> None:
    records = fabricate(tmp_path, Fabrication([str(i) for i in range(11)], units=3))
    found = {curve.name: curve for curve in read_curves(str(tmp_path), records, 3)}
    assert list(found) == ["l2", "lpips", "id_similarity", "delta"]
    for name in METRICS:
        values = [value(name, face, 2) for face in range(11)]
        assert found[name].middle[1] == pytest.approx(np.median(values), rel=1e-6)
        assert found[name].quartiles is not None
        assert found[name].quartiles[1] == pytest.approx(
            (np.quantile(values, 0.25), np.quantile(values, 0.75)), rel=1e-6
        )
    assert found["l2"].faces == 11


def test_faces_that_stopped_early_count_in_later_steps_as_they_are(tmp_path: Path) -> None:
    records = fabricate(tmp_path, Fabrication([str(i) for i in range(5)], units=2))
    found = {curve.name: curve for curve in read_curves(str(tmp_path), records, 5)}
    assert found["l2"].steps == (1, 2, 3, 4, 5)
    assert found["l2"].faces == 5
    assert found["l2"].middle[2:] == (found["l2"].middle[2],) * 3
    assert found["delta"].steps == (1, 2, 3)


def test_curves_from_the_ledger_when_steps_were_not_saved(tmp_path: Path) -> None:
    what = Fabrication([str(i) for i in range(5)], save_steps="none", units=2)
    records = fabricate(tmp_path, what)
    (curve, *_) = read_curves(str(tmp_path), records, 3)
    assert curve.quartiles is None
    assert curve.middle[0] == pytest.approx(np.mean([value("l2", i, 1) for i in range(5)]))
    assert "were not saved" in page_of(tmp_path).words


def test_heatmap_scale_is_shared_and_covers_the_changes(tmp_path: Path) -> None:
    records = fabricate(tmp_path, Fabrication(["a.jpg", "b.jpg"], steps=2))
    # Step 1 is 40 grey levels off the input, 40/127.5 of the range, and step 2 is 20.
    assert read_gallery(str(tmp_path), records).scale == pytest.approx(0.4)


def test_what_another_model_drew_has_a_page_of_its_own(tmp_path: Path) -> None:
    names = [f"{index}.jpg" for index in range(20)]
    fabricate(tmp_path, Fabrication(names, bootstrap="photo-model:restyle-psp"))
    page = page_of(tmp_path)
    words = " ".join(page.words.split())
    # Each photograph beside what was made of it, and its other two steps.
    assert words.count("photograph faces64 ") == 20
    assert page.tags.count("img") == 20 * 4
    assert "photo-model:restyle-psp" in words
    body = words.partition("Skip to the faces")[2].partition("The data beside")[0]
    # No curve, no metric and no ranking that would read as failure.
    for word in ("Refinement", "LPIPS", "identity", "worst", "better", "median", "difference"):
        assert word not in body
    assert "svg" not in page.tags


def test_maps_are_differences_from_the_input_and_get_darker(tmp_path: Path) -> None:
    records = fabricate(tmp_path, Fabrication(["a.jpg"], steps=3))
    (strip,) = read_gallery(str(tmp_path), records).strips
    assert strip.input is not None
    assert strip.input.difference == ""
    means = []
    for frame in strip.steps:
        data = base64.b64decode(frame.difference.partition(",")[2])
        means.append(np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float64).mean())
    # The steps are 40, 20 and 13 grey levels off.
    assert means[0] > means[1] > means[2] > 0


def test_the_worst_by_each_metric_come_first(tmp_path: Path) -> None:
    names = [f"{index:03d}.jpg" for index in range(90)]
    fabricate(tmp_path, Fabrication(names, steps=2, units=7))
    words = page_of(tmp_path).words
    top = words.partition("The worst by each metric")[2].partition("A sample")[0]
    # After the direction of each metric stand its faces, then the title of the next.
    for name, shown in zip(METRICS, top.split("is better")[1:], strict=True):
        values = [value(name, face, 2) for face in range(90)]
        worst = np.argsort(values if name == "id_similarity" else np.negative(values))[:3]
        assert re.findall(r"(\d{3})\.jpg", shown) == [f"{face:03d}" for face in worst]


def test_a_worst_face_of_an_earlier_revision_is_not_shown(tmp_path: Path) -> None:
    made = Made(faces=30, steps=1, side=16)
    storage = whole_run(tmp_path, made)
    faces = read_faces(read_snapshot(str(tmp_path)))
    worst = int(np.argmax(faces.metrics["lpips"]))
    name = faces.row(worst)["source"].rpartition("/")[2]
    assert name in page_of(tmp_path).words.partition("A sample")[0]
    redo(storage, made, worst, 2, rejected=True)
    shown, _, rejected = page_of(tmp_path).words.partition("Inputs without a latent")
    assert name not in shown
    assert name in rejected


def test_the_page_is_titled_by_the_data_and_numbers_are_of_all(tmp_path: Path) -> None:
    what = Fabrication([f"{index}.jpg" for index in range(9)], units=3)
    fabricate(tmp_path, what)
    run = read_run(open_storage(str(tmp_path)))
    assert run is not None
    # The last run has only tried one input again.
    asked = run.asked.model_copy(update={"source": "s3://bucket/holiday album", "limit": 1})
    timings = run.timings.model_copy(update={"images": 1, "images_per_second": 0.1})
    write_run(
        open_storage(str(tmp_path)), run.model_copy(update={"asked": asked, "timings": timings})
    )
    markup = page_of(tmp_path)
    words = " ".join(markup.words.split())
    assert words.startswith("holiday album: 9 faces inverted with faces64:restyle-psp")
    median = np.median([value("lpips", face, 3) for face in range(9)])
    figures = words.partition("Model")[0]
    assert f"median LPIPS {text(float(median))}" in figures
    assert "images 9" in figures
    assert "per second" not in figures
    assert words.index("A sample") < words.index("Refinement, step by step")


def test_rejects_have_thumbnails_of_what_can_be_decoded(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.new("RGB", (300, 150), (200, 30, 30)).save(photos / "red.png")
    Image.new("RGB", (90, 200), (30, 30, 200)).save(photos / "changed.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    model = str(make_tiny_model(tmp_path / "tiny"))
    settings = InversionSettings(model=model, steps=1, metrics=())
    invert_images(Request(str(photos), str(out), settings), engine=in_process)
    Image.new("RGB", (90, 200), (30, 200, 30)).save(photos / "changed.png")
    os.utime(photos / "changed.png", ns=(1, 1))
    page = page_of(out)
    pictures = [value for name, value in page.attributes if name == "src"]
    # What was changed since is not what was rejected.
    (data,) = pictures
    image = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")
    assert image.size == (160, 80)
    assert np.abs(np.asarray(image, np.int16) - (200, 30, 30)).max() < 8
    assert page.words.count("no picture") == 2


def test_drawing_encloses_its_band() -> None:
    curve = Curve("l2", (1, 2), (0.03, 0.02), ((0.02, 0.05), (0.01, 0.03)), 7)
    drawing = draw(curve)
    heights = [float(point.split(",")[1]) for point in drawing.band.split()]
    rules = [y for y, _ in drawing.y_ticks]
    assert min(rules) <= min(heights)
    assert max(heights) <= max(rules)
    assert [label for _, label in drawing.y_ticks] == ["0.00", "0.02", "0.04", "0.06"]


@pytest.mark.parametrize("middle", [(0.0,), (0.5, 0.5), (-1e-9, 1e-9), (1e6, 2e6)])
def test_drawing_of_odd_ranges(middle: tuple[float, ...]) -> None:
    drawing = draw(Curve("psnr", tuple(range(1, len(middle) + 1)), middle, None, 1))
    assert len(drawing.dots) == len(middle)
    assert all(np.isfinite((x, y)).all() for x, y, _, _ in drawing.dots)


@pytest.mark.parametrize(
    ("number", "written"), [(0.0, "0"), (0.01234, "0.0123"), (12.345, "12.3"), (123456.0, "123456")]
)
def test_numbers_have_three_digits(number: float, written: str) -> None:
    assert text(number) == written


def test_visible_keeps_ordinary_text() -> None:
    assert visible("Grüße 東京 👩.jpg") == "Grüße 東京 👩.jpg"


def test_no_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="holds no run"):
        write_report(Output.at(str(tmp_path)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    fabricate(tmp_path, Fabrication(["a.jpg"]))
    (path,) = (tmp_path / "latents").iterdir()
    path.unlink()
    with pytest.raises(FatalError, match=r"latents/part-000000-\w+\.parquet"):
        write_report(Output.at(str(tmp_path)))
