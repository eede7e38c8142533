"""The table against plain pandas and NumPy over the files of the methods, and after a kill."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.evaluation.request import Evaluation
from restyle.pipeline.evaluation.run import evaluate
from restyle.pipeline.inversion.run import invert_images
from tests.command import restyle, start
from tests.inverted import NAMES
from tests.pipeline.evaluation.conftest import METHODS, request_of
from tests.restyle_core.fabricate import save
from tests.restyle_core.faces.test_arcface import recogniser

KEY = ["image_id", "face"]


def folders(out: Path) -> list[Path]:
    """The outputs of the methods, in their order."""
    names = [method.replace(":", "-") for method in METHODS]
    found = list((out / "methods").iterdir())
    return [each for name in names for each in found if each.name.startswith(name)]


def latents(out: Path) -> list[pd.DataFrame]:
    return [
        pd.read_parquet(each / "latents").sort_values(KEY, ignore_index=True)
        for each in folders(out)
    ]


def plain_bootstrap(values: np.ndarray) -> tuple[float, float]:
    source = np.random.default_rng(7)
    means = [values[source.integers(0, len(values), len(values))].mean() for _ in range(20_000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def test_the_table_is_that_of_plain_numpy(evaluated: tuple[Path, Evaluation]) -> None:
    out, made = evaluated
    assert made.faces == len(NAMES)
    table = pd.read_parquet(out / "table.parquet")
    frames = latents(out)
    for method, frame in zip(METHODS, frames, strict=True):
        for metric in ("l2", "lpips", "id_similarity"):
            (row,) = table[(table.method == method) & (table.measure == metric)].itertuples()
            values = frame[metric].to_numpy(np.float64)
            assert row.faces == len(values)
            assert np.isclose(row.mean, values.mean(), rtol=1e-12)
            assert np.isclose(row.median, np.median(values), rtol=1e-12)
            low, high = plain_bootstrap(values)
            assert abs(row.low - low) < 0.1 * (high - low)
            assert abs(row.high - high) < 0.1 * (high - low)
            if method == METHODS[0]:
                assert np.isnan([row.difference, row.difference_low, row.difference_high]).all()
                continue
            gains = values - frames[0][metric].to_numpy(np.float64)
            assert np.isclose(row.difference, gains.mean(), rtol=1e-9)
            low, high = plain_bootstrap(gains)
            assert abs(row.difference_low - low) < 0.1 * (high - low)
            assert abs(row.difference_high - high) < 0.1 * (high - low)


def test_the_distance_from_w_is_that_of_the_latents(evaluated: tuple[Path, Evaluation]) -> None:
    out, _ = evaluated
    table = pd.read_parquet(out / "table.parquet")
    for method, frame in zip(METHODS, latents(out), strict=True):
        (row,) = table[(table.method == method) & (table.measure == "w_distance")].itertuples()
        styles = np.stack(frame["latent"].to_list()).reshape(len(frame), -1, 32)
        lengths = np.linalg.norm(styles[:, 1:] - styles[:, :1], axis=-1)
        assert np.isclose(row.mean, lengths.mean(), rtol=1e-5)


def test_every_step_is_a_point_of_the_curve(evaluated: tuple[Path, Evaluation]) -> None:
    out, _ = evaluated
    curve = pd.read_parquet(out / "curve.parquet")
    for method, folder in zip(METHODS, folders(out), strict=True):
        steps = pd.read_parquet(folder / "steps")
        own = curve[(curve.method == method) & (curve.metric == "lpips")].sort_values("step")
        means = steps.groupby("step")["lpips"].mean()
        assert own.step.tolist() == means.index.tolist()
        assert np.allclose(own["mean"], means, rtol=1e-6)
        assert (np.diff(own.seconds) > 0).all()


def test_seconds_are_those_of_the_ledger(evaluated: tuple[Path, Evaluation]) -> None:
    out, _ = evaluated
    table = pd.read_parquet(out / "table.parquet")
    for method, folder in zip(METHODS, folders(out), strict=True):
        (row,) = table[(table.method == method) & (table.measure == "seconds")].itertuples()
        entries = [json.loads(path.read_bytes()) for path in folder.glob("_ledger/unit-*.json")]
        most = sum(entry["seconds"]["invert"] for entry in entries)
        assert 0 < row.mean <= most / len(NAMES) * (1 + 1e-9)


def test_the_page_and_the_markdown_have_every_method(evaluated: tuple[Path, Evaluation]) -> None:
    out, made = evaluated
    page, text = Path(made.page).read_text(), (out / "table.md").read_text()
    assert text == made.text
    for method in METHODS:
        assert method in page
        assert f"| `{method}` |" in text
    # Every face among the failures is shown by every method, and beside its input.
    assert page.count('class="worst-of"') == len(METHODS) * len(NAMES)
    assert page.count("aligned input") == len(METHODS) * len(NAMES)
    assert "<script" not in page


def test_the_same_again_changes_nothing(
    evaluated: tuple[Path, Evaluation], some_photos: Path, tiny_model: Path
) -> None:
    out, made = evaluated
    before = {path: path.read_bytes() for path in out.glob("[!.]*.*")}
    again = evaluate(request_of(some_photos, out, tiny_model))
    assert again == made
    assert {path: path.read_bytes() for path in out.glob("[!.]*.*")} == before


def test_killed_and_continued_is_the_same_table(
    evaluated: tuple[Path, Evaluation], some_photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", some_photos, "--out", out, "--models", tiny_model, "--dtype", "fp32"]
    words += ["--metrics", "l2,lpips,id_similarity", "--device", "cpu"]
    for method in METHODS:
        words += ["--method", method]
    process = start(*words, "--executor", "local")
    # The second method has begun and has not ended.
    while process.poll() is None and not list(out.glob("methods/single-pass*/_ledger/plan-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "table.parquet").exists()
    first = out / "methods" / folders(evaluated[0])[0].name
    kept = {path: path.read_bytes() for path in first.rglob("part-*.parquet")}
    assert kept
    done = restyle(*words, "--executor", "local")
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in first.rglob("part-*.parquet")} == kept
    found, wanted = (
        pd.read_parquet(each / "table.parquet").query("measure != 'seconds'")
        for each in (out, evaluated[0])
    )
    pd.testing.assert_frame_equal(found, wanted)
    assert (out / "table.md").read_text() in done.stdout


def test_photographs_without_faces_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(SpecError, match="no face was found that can be compared"):
        evaluate(request_of(tmp_path / "photos", tmp_path / "out", tiny_model))


def test_an_inversion_is_no_folder_of_an_evaluation(
    evaluated: tuple[Path, Evaluation], some_photos: Path, tiny_model: Path
) -> None:
    taken = folders(evaluated[0])[0]
    with pytest.raises(SpecError, match="holds an inversion"):
        evaluate(request_of(some_photos, taken, tiny_model))


def test_a_folder_of_an_evaluation_is_nothing_else(
    evaluated: tuple[Path, Evaluation], some_photos: Path, tiny_model: Path
) -> None:
    out = evaluated[0]
    before = sorted(out.rglob("*"))
    request = request_of(some_photos, out, tiny_model)
    with pytest.raises(SpecError, match="holds an evaluation; choose another --out"):
        invert_images(request.base)
    planned = restyle("plan", str(some_photos), "--out", str(out))
    assert f"{out} holds an evaluation; choose another --out" in planned.stderr
    with pytest.raises(SpecError, match="holds an evaluation; choose another --out"):
        edit(EditRequest(str(folders(out)[0]), str(out), [Move("smile", (1.0,))]))
    with pytest.raises(SpecError, match="holds an evaluation, no output of a run; correct OUT"):
        read_status(str(out))
    assert sorted(out.rglob("*")) == before
    assert evaluate(request).faces == len(NAMES)


@pytest.mark.parametrize("made", ["restyle-export.json", "restyle-view.json"])
def test_an_export_is_no_folder_of_a_run(
    made: str, some_photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / made).write_text("{}\n")
    request = request_of(some_photos, tmp_path / "out", tiny_model)
    for run in (
        lambda: evaluate(request),
        lambda: invert_images(request.base),
    ):
        with pytest.raises(SpecError, match=r"holds an? (export|page of restyle view); choose"):
            run()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [made]


def test_what_never_began_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="gone does not exist"):
        evaluate(request_of(tmp_path / "gone", tmp_path / "out", tiny_model))
    assert list(tmp_path.iterdir()) == []


def test_what_an_evaluation_wrote_is_no_input(
    evaluated: tuple[Path, Evaluation], some_photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(some_photos, photos)
    shutil.copytree(evaluated[0], photos / "out")
    request = request_of(photos, tmp_path / "other", tiny_model, "single-pass")
    assert evaluate(request).faces == len(NAMES)


def test_identity_is_measured_by_the_named_recogniser(
    evaluated: tuple[Path, Evaluation], some_photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    weights = save(recogniser("curricular"), tmp_path / "CurricularFace_Backbone.pth")
    request = request_of(some_photos, tmp_path / "out", tiny_model, "restyle:3")
    settings = request.base.settings.model_copy(update={"identity_weights": str(weights)})
    request = replace(request, base=replace(request.base, settings=settings), direction="none")
    made = evaluate(request)
    (note,) = (note for note in made.notes if "recogniser" in note)
    assert note.startswith("id_similarity is by the face recogniser of CurricularFace_Backbone.pth")
    assert note in made.text

    named, embedded = latents(tmp_path / "out")[0], latents(evaluated[0])[0]
    assert np.allclose(named.lpips, embedded.lpips, rtol=1e-5)
    assert (np.abs(named.id_similarity - embedded.id_similarity) > 1e-3).all()
