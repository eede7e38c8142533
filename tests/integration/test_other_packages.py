"""What another package registers is found in everything that this project writes and shows."""

from __future__ import annotations

import html
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from tests.command import restyle
from tests.other_package import install

TOY_METRIC = """
import sys

from restyle.core.metrics.registry import Metric, pairwise

assert "--help" not in sys.argv, "names are known without it"


def gap(images, target):
    return (images.mean(dim=(1, 2, 3)) - target.mean(dim=(1, 2, 3))).abs()


METRIC = Metric(
    name="brightness_gap",
    title="brightness gap",
    unit="difference of mean pixels",
    definition="absolute difference of the mean pixels on [-1, 1]",
    better="lower",
    bounds=(0, 2),
    load=pairwise(gap),
)
"""
TOY_SOURCE = '''
import json
import os
import sys

from restyle.pipeline.sources.formats.source_format import Member, SourceFormat

assert "--help" not in sys.argv, "names are known without it"


class Stack(SourceFormat):
    """A line of JSON with names and sizes, and the files one behind the other."""

    name = "stack"
    extensions = ("stack",)

    def begins(self, head):
        return head.startswith(b\'{"stack":\')

    def index(self, file, asked):
        table, at = header(file)
        places = []
        for name, size in table:
            places.append(Member(name, str(len(places)), size))
        yield from self.members(asked, places)

    def open(self, file):
        return Opened(file)


class Opened:
    def __init__(self, file):
        self.file = file
        self.table, self.start = header(file)

    def read(self, place):
        name, size = self.table[int(place)]
        if name == "crash.png":
            os.abort()
        if name == "fails.png":
            raise KeyError("no such thing")
        if name == "nothing.png":
            return None
        start = self.start + sum(size for _, size in self.table[: int(place)])
        return self.file.read_at(start, size)

    def close(self):
        self.file.close()


def header(file):
    line = file.read_at(0, 65536).split(b"\\n", 1)[0]
    return json.loads(line)["stack"], len(line) + 1


FORMAT = Stack()
'''
ASKED = "l2,brightness_gap"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command beside which the toy package is installed."""
    folder = tmp_path_factory.mktemp("site")
    install(
        folder,
        "toy_restyle",
        TOY_METRIC,
        {"restyle.metrics": {"brightness_gap": "toy_restyle:METRIC"}},
    )
    install(folder, "toy_source", TOY_SOURCE, {"restyle.sources": {"stack": "toy_source:FORMAT"}})
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(3):
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def stacked(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stack of pictures and of what cannot be read, and a picture of its own."""
    folder = tmp_path_factory.mktemp("stacked")
    png = [path.read_bytes() for path in sorted(pictures.iterdir())]
    names = ["a.png", "deep/b.png", "fails.png", "nothing.png", "a.png", "crash.png"]
    files = list(zip(names, [png[0], png[1], b"x", b"x", png[0], b"x"], strict=True))
    table = {"stack": [(name, len(data)) for name, data in files]}
    data = json.dumps(table).encode() + b"\n" + b"".join(data for _, data in files)
    (folder / "some.stack").write_bytes(data)
    (folder / "own.png").write_bytes(png[2])
    return folder


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    pictures: Path,
    site: dict[str, str],
) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    result = invert(pictures, out, tiny_model, site)
    assert result.returncode == 0, result.stderr
    assert "brightness_gap" in result.stdout
    return out


def invert(
    pictures: Path, out: Path, model: Path, env: dict[str, str], metrics: str = ASKED
) -> Any:
    return restyle(
        *("invert", pictures, "--out", out, "--model", model, "--no-align", "--device", "cpu"),
        *("--dtype", "fp32", "--steps", 2, "--metrics", ASKED, "--reconstructions", "all"),
        *("--executor", "local"),
        env=env,
    )


def images_of(out: Path) -> dict[tuple[str, int], np.ndarray]:
    rows = ds.dataset(out / "reconstructions").to_table().to_pylist()
    return {
        (row["image_id"], row["step"]): np.asarray(
            Image.open(io.BytesIO(row["image"])), dtype=np.float64
        )
        / 127.5
        - 1
        for row in rows
    }


def test_the_metric_is_in_the_datasets_and_right(made: Path) -> None:
    pictures = images_of(made)
    for dataset in ("latents", "steps"):
        table = ds.dataset(made / dataset).to_table()
        field = table.schema.field("brightness_gap")
        assert field.metadata[b"definition"].startswith(b"absolute difference of the mean")
        names = table.schema.names
        assert names.index("brightness_gap") == names.index("id_similarity") + 1
        assert table.num_rows == (3 if dataset == "latents" else 6)
        for row in table.to_pylist():
            target, last = pictures[row["image_id"], 0], row.get("step", 2)
            expected = abs(pictures[row["image_id"], last].mean() - target.mean())
            assert row["brightness_gap"] == pytest.approx(expected, abs=0.01)
            assert row["brightness_gap"] > 0.02


def test_the_metric_is_in_the_record_and_the_sums(made: Path) -> None:
    run = json.loads((made / "run.json").read_text(encoding="utf-8"))
    assert run["metrics"] == ["l2", "brightness_gap"]
    rows = ds.dataset(made / "steps").to_table().to_pylist()
    for step in (1, 2):
        values = [row["brightness_gap"] for row in rows if row["step"] == step]
        assert run["means"]["brightness_gap"][step - 1] == pytest.approx(np.mean(values), rel=1e-5)


def test_the_metric_is_in_the_report(made: Path) -> None:
    page = html.unescape((made / "report.html").read_text(encoding="utf-8"))
    for words in ("Brightness gap", "difference of mean pixels", "<dt>brightness gap</dt>"):
        assert words in page


def test_the_metric_is_on_the_page(made: Path, site: dict[str, str], tmp_path: Path) -> None:
    result = restyle("view", made, "--export", tmp_path / "page", env=site)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert '"title": "brightness gap"' in text
    script = (tmp_path / "page" / "data.js").read_text(encoding="ascii")
    (run,) = json.loads(script.removeprefix("const EXPORTED = ").rstrip().rstrip(";"))
    rows = {row["image_id"]: row for row in ds.dataset(made / "latents").to_table().to_pylist()}
    assert len(run["faces"]) == len(rows) == 3
    for face in run["faces"]:
        value = rows[face["image_id"]]["brightness_gap"]
        assert face["metrics"]["brightness_gap"] == pytest.approx(value)
        assert face["steps"][-1]["brightness_gap"] == pytest.approx(value)


def test_the_metric_is_in_the_help_and_imports_nothing_heavy(site: dict[str, str]) -> None:
    result = restyle("invert", "--help", env=site)
    assert result.returncode == 0
    assert "brightness_gap" in result.stdout
    checked = restyle("spec", "check", "examples/job.toml", env=site)
    assert checked.returncode == 0, checked.stderr


def test_an_output_outlives_the_package(
    made: Path, pictures: Path, tiny_model: Path, site: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    for command in (["verify"], ["status"], ["compact"], ["verify"]):
        result = restyle(*command, out)
        assert result.returncode == 0, result.stderr
    asked = restyle("query", out, "select count(brightness_gap) n from latents", "--format", "csv")
    assert (asked.returncode, "3" in asked.stdout) == (0, True), asked.stderr
    shown = restyle("view", out, "--export", tmp_path / "page")
    assert shown.returncode == 0, shown.stderr
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert '"title": "brightness_gap"' in text
    refused = invert(pictures, out, tiny_model, {})
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "there is no metric 'brightness_gap'" in line
    again = invert(pictures, out, tiny_model, site)
    assert again.returncode == 0, again.stderr
    assert restyle("verify", out, env=site).returncode == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module\n", "ModuleNotFoundError"),
        (TOY_METRIC.replace('"brightness_gap"', '"step"'), "cannot be the name of a metric"),
        (TOY_METRIC.replace("pairwise(gap)", "lambda setting: 1 / 0"), "cannot be loaded: Zero"),
        (TOY_METRIC.replace(".abs()", ".abs().sum()"), "instead of a tensor [3]"),
    ],
)
def test_a_metric_that_fails_is_named_in_one_line(
    tmp_path: Path, pictures: Path, tiny_model: Path, source: str, words: str
) -> None:
    entries = {"restyle.metrics": {"brightness_gap": "toy_restyle:METRIC"}}
    env = {"PYTHONPATH": str(install(tmp_path / "site", "toy_restyle", source, entries))}
    assert restyle("invert", "--help", env=env).returncode == 0
    result = invert(pictures, tmp_path / "out", tiny_model, env)
    assert result.returncode == 2
    (line,) = [each for each in result.stderr.splitlines() if each.startswith("error: ")]
    assert "brightness_gap" in line
    assert words in line


def test_the_source_is_in_the_help(site: dict[str, str]) -> None:
    with_it, without = (restyle("invert", "--help", env=env).stdout for env in (site, {}))
    assert "<auto|files|tar|parquet|list|stack>" in with_it
    assert "<auto|files|tar|parquet|list>" in without


def test_the_inputs_of_the_source_are_inverted_or_rejected_each(
    stacked: Path, tiny_model: Path, site: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = invert(stacked, out, tiny_model, site)
    assert result.returncode == 0, result.stderr
    at = f"{stacked}/some.stack::"
    latents = ds.dataset(out / "latents").to_table().to_pylist()
    assert {row["source"] for row in latents} == {
        f"{at}a.png",
        f"{at}deep/b.png",
        f"{stacked}/own.png",
    }
    rejects = ds.dataset(out / "rejects").to_table().to_pylist()
    assert sorted((row["source"].removeprefix(at), row["reason"]) for row in rejects) == [
        ("a.png", "duplicate_name"),
        ("crash.png", "crashed"),
        ("fails.png", "damaged_archive"),
        ("nothing.png", "empty"),
    ]
    assert restyle("verify", out).returncode == 0
    # The datasets, the report and the page name them.
    assert "some.stack::deep/b.png" in html.unescape((out / "report.html").read_text("utf-8"))
    shown = restyle("view", out, "--export", tmp_path / "page", env=site)
    assert shown.returncode == 0, shown.stderr
    assert "some.stack::deep/b.png" in (tmp_path / "page" / "data.js").read_text("ascii")
    # The same command again has nothing to do, and a pixel is that of the member.
    again = invert(stacked, out, tiny_model, site)
    assert "this run" not in again.stdout
    pictures = images_of(out)
    (row,) = [row for row in latents if row["source"].endswith("deep/b.png")]
    data = (stacked / "some.stack").read_bytes()
    member = Image.open(io.BytesIO(data[data.index(b"PNG", data.index(b"PNG") + 9) - 1 :]))
    np.testing.assert_array_equal(
        pictures[row["image_id"], 0], np.asarray(member, dtype=np.float64) / 127.5 - 1
    )


def test_a_file_is_recognised_by_its_beginning_where_input_names_it(
    stacked: Path, site: dict[str, str], tmp_path: Path
) -> None:
    odd = tmp_path / "photographs.bin"
    odd.write_bytes((stacked / "some.stack").read_bytes())
    named = restyle("plan", odd, "--out", tmp_path.parent / "named", env=site)
    assert named.returncode == 0, named.stderr
    assert "6 inputs listed" in named.stdout
    beside = restyle("plan", tmp_path, "--out", tmp_path.parent / "beside", env=site)
    assert beside.returncode == 2
    assert "passed over: 1 file that is no image (.bin 1)" in beside.stderr
    forced = restyle(
        *("plan", tmp_path, "--out", tmp_path.parent / "forced"),
        *("--input-format", "stack"),
        env=site,
    )
    assert "6 inputs listed" in forced.stdout, forced.stderr
    unknown = restyle(
        *("plan", tmp_path, "--out", tmp_path.parent / "forced", "--input-format", "stack"), env={}
    )
    assert unknown.returncode == 2
    assert "'stack' is not one of 'auto', 'files', 'tar', 'parquet', 'list'" in unknown.stderr


def test_a_source_that_cannot_be_used_stops_planning(pictures: Path, tmp_path: Path) -> None:
    """Else its files would be taken for images, each of them a reject."""
    entries = {"restyle.sources": {"stack": "toy_source:NOTHING"}}
    env = {"PYTHONPATH": str(install(tmp_path / "site", "toy_source", TOY_SOURCE, entries))}
    assert restyle("invert", "--help", env=env).returncode == 0
    result = restyle("plan", pictures, "--out", tmp_path / "out", env=env)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "the source format stack of toy_source cannot be used: AttributeError" in line
