"""``restyle optimize``: what an output holds of it, and who renders with the tuned generators."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from restyle.core import load_model
from restyle.core import optimize as core_optimize
from restyle.core.errors import FatalError, SpecError
from restyle.core.imaging.preprocessing import to_bytes
from restyle.core.inference import way
from restyle.core.inference.tuning import decoded
from restyle.core.networks.generator import GeneratorConfig
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.task import TUNED_UNIT, InversionTask
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import plan_only
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.sliders.editable import edited, wanted
from tests.faults.running_job import RunningJob, entries
from tests.pipeline.inversion.test_run import run
from tests.pipeline.resolved import resolved
from tests.warm_command import restyle

NAMES = ("smile.jpg", "blue hat.jpg")
WORDS = "--model faces64 --dtype fp32 --device cpu --metrics l2,lpips"
TUNING = "--start encoder --steps 2 --iterations 2 --pivotal 3 --seed 5"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with ``photos`` and, in ``out``, faces with generators of their own."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "photos").mkdir()
    for name in NAMES:
        shutil.copy(photos / name, folder / "photos" / name)
    command = ["optimize", folder / "photos", "--out", folder / "out", *WORDS.split()]
    done = restyle(*command, *TUNING.split(), "--reconstructions", "all", env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    return folder


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def pictures(out: Path, step: int) -> dict[str, np.ndarray]:
    rows = pd.read_parquet(out / "reconstructions")
    rows = rows[rows.step == step]
    return {row.source.rpartition("/")[2]: picture(row.image) for row in rows.itertuples()}


def test_rows_tell_how_they_came_about(tuned: Path) -> None:
    out = tuned / "out"
    assert verify(str(out)).problems == []
    rows = pd.read_parquet(out / "latents").set_index("source")
    assert rows.steps.tolist() == [4, 4]
    assert rows.iterations.tolist() == [2, 2]
    assert rows.stopped_by.tolist() == ["iterations"] * 2
    assert rows.seed.tolist() == [5, 5]
    assert rows.pivotal.tolist() == [3, 3]
    generators = pd.read_parquet(out / "generators").set_index("source")
    crops = pictures(out, 0)
    model = load_model("faces64", dtype="fp32", device="cpu")
    for source, row in rows.iterrows():
        name = str(source).rpartition("/")[2]
        pixels = torch.from_numpy(crops[name].astype(np.uint8))[None]
        direct = core_optimize(
            model, pixels, 2, start="encoder", steps=2, tuning=3, seed=5, metrics=["lpips"]
        )
        assert np.array_equal(row.latent, direct.latents[0, -1].flatten().numpy())
        assert row.lpips == pytest.approx(float(direct.metrics["lpips"][0, -1]), rel=1e-3)
        weights = decoded(generators.loc[source].weights)
        assert all(torch.equal(weights[key], value[0]) for key, value in direct.weights.items())
    steps = pd.read_parquet(out / "steps")
    loss = (steps.l2 + steps.lpips).to_numpy().reshape(2, 4)
    # Two steps of optimisation may not find a better latent, but never end at a worse one.
    assert (loss[:, 2] <= loss[:, 1]).all()
    assert (loss[:, 3] < loss[:, 2]).all()


def test_record_status_report_and_page_tell_of_it(tuned: Path) -> None:
    out = tuned / "out"
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["start"] == "encoder"
    assert record["worsened"].keys() == {"l2", "lpips"}
    status = restyle("status", out).stdout
    assert "2 steps and 2 of optimisation and 3 of" in " ".join(status.split())
    report = (out / "report.html").read_text()
    assert "3 steps of pivotal tuning" in report
    viewed = ViewedRun(str(out))
    assert viewed.about()["names"] == {3: "optimised", 4: "tuned"}
    assert viewed.face(0)["pictures"] == [0, 1, 2, 3, 4]


def test_edits_and_photographs_use_the_tuned_generator(tuned: Path, tmp_path: Path) -> None:
    out = tuned / "out"
    request = EditRequest(
        out=str(out),
        to=str(tmp_path / "edits"),
        moves=(Move("smile", (0.0, 2.0)),),
        paste_back="face",
        device="cpu",
    )
    edit(request)
    assert verify(str(tmp_path / "edits")).problems == []
    rows = pd.read_parquet(tmp_path / "edits" / "edits")
    optimised, own = pictures(out, 3), pictures(out, 4)
    for row in rows[rows.strength_smile == 0].itertuples():
        name = row.source.rpartition("/")[2]
        assert np.abs(picture(row.image) - own[name]).max() <= 1
        assert np.abs(picture(row.image) - optimised[name]).max() > 5
        assert row.photo_problem is None or pd.isna(row.photo_problem)
        changed = picture(row.photo) != picture((tuned / "photos" / name).read_bytes())
        assert 0 < changed.any(axis=2).mean() < 1
    moved = rows[rows.strength_smile == 2]
    model = load_model("faces64", dtype="fp32", device="cpu")
    generators = pd.read_parquet(out / "generators").set_index("image_id")
    for row in moved.itertuples():
        latent = torch.from_numpy(row.latent.copy()).reshape(1, model.n_styles, -1)
        weights = decoded(generators.loc[row.image_id].weights)
        with torch.inference_mode():
            expected = to_bytes(model.tuned(weights).synthesize(latent))[0].permute(1, 2, 0)
            plainly = to_bytes(model.synthesize(latent))[0].permute(1, 2, 0)
        assert np.abs(picture(row.image) - expected.numpy().astype(int)).max() <= 1
        assert np.abs(picture(row.image) - plainly.numpy().astype(int)).max() > 5


def test_the_page_and_moving_pictures_use_it(tuned: Path, tmp_path: Path) -> None:
    out = tuned / "out"
    viewed, own = ViewedRun(str(out)), pictures(out, 4)
    for number in (0, 1, 0):
        name = viewed.card(number)["source"].rpartition("/")[2]
        shown = edited(viewed.edits, viewed.editable(number), wanted({":as": "png"}))
        assert np.abs(picture(shown.body) - own[name]).max() <= 1
    file = tmp_path / "between.parquet"
    done = restyle("interpolate", out, *NAMES, "--frames", 3, "--out", file, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    frames = [picture(data) for data in pd.read_parquet(file).image]
    for name, frame in zip(NAMES, (frames[0], frames[-1]), strict=True):
        assert np.abs(frame - own[name]).max() <= 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            "mix {out} --content smile.jpg --style *hat.jpg --layers 4-9 --out {to}/m.png",
            "be mixed",
        ),
        (
            "animate {out} smile.jpg --direction smile --model toon64 --out {to}/a.png",
            "--model out",
        ),
        ("edit {out} --direction smile --model toon64 --out {to}/edits", "leave --model out"),
    ],
)
def test_what_needs_a_common_generator_is_refused(
    words: str, reason: str, tuned: Path, tmp_path: Path
) -> None:
    done = restyle(*words.format(out=tuned / "out", to=tmp_path).split())
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("lost", ["a row", "two of one face", "the file"])
def test_a_generator_that_is_missing_is_found(lost: str, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tuned / "out", out)
    (file,) = (out / "generators").iterdir()
    table = pq.read_table(file)
    if lost == "the file":
        file.unlink()
    else:
        kept = table.slice(0, 1) if lost == "a row" else table.take([0, 0])
        pq.write_table(kept.replace_schema_metadata(table.schema.metadata), file)
        (entry,) = (out / "_ledger").glob("unit-*.json")
        record = json.loads(entry.read_text())
        (own,) = (each for each in record["files"] if each["name"].startswith("generators/"))
        data = file.read_bytes()
        own |= {
            "rows": kept.num_rows,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        entry.write_text(json.dumps(record))
    assert any("generators" in problem for problem in verify(str(out)).problems)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(18):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{index:02d}.png")
    return folder


def tiny(images: Path, out: Path, model: Path, **settings: object) -> Request:
    given = {"steps": None, "align": False, "metrics": ("l2", "lpips"), "dtype": "fp32"} | settings
    return Request(
        str(images), str(out), InversionSettings(model=str(model), **given), device="cpu"
    )


def test_killed_and_continued_it_has_the_same_rows(
    images: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """To the bit, latents and generators alike, though the batches are others."""
    words = f"--no-align --model {tiny_model} --metrics l2 --dtype fp32 --device cpu".split()
    words += ["--iterations", "3", "--pivotal", "2", "--noise", "0.05", "--executor", "local"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = ["optimize", images, *words, "--out"]
    with RunningJob([*command, out, "--batch-size", "3"], env=ONE_THREAD) as job:
        job.wait_for(lambda: entries(out) or job.process.poll() is not None, "a committed unit")
        job.process.send_signal(signal.SIGKILL)
        job.process.communicate()
    assert len(entries(out)) < 3
    for target in (out, whole):
        done = restyle(*command, target, env=ONE_THREAD)
        assert done.returncode == 0, done.stderr
        assert verify(str(target)).problems == []
    for dataset, column in (("latents", "latent"), ("generators", "weights")):
        one, other = (
            pd.read_parquet(each / dataset).sort_values("source")[column] for each in (out, whole)
        )
        assert len(one) == 18
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_units_of_tuned_faces_are_small(images: Path, tmp_path: Path, tiny_model: Path) -> None:
    """A unit is in memory until it is written: at the published size its generators are 0.5 GB."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03d}.png").hardlink_to(images / "00.png")
    sizes = []
    for pivotal in (0, 1):
        request = tiny(many, tmp_path / str(pivotal), tiny_model, start="encoder", pivotal=pivotal)
        task = InversionTask.of(request)
        planned = task.plan(PlannedInputs.read(task.output), Listener(), lambda: None)
        assert planned.new == 300
        sizes.append(max(unit.images for unit in planned.units))
    assert sizes[0] > TUNED_UNIT >= sizes[1]
    # What `restyle plan` has planned already, without knowing of the tuning.
    planned_before = tmp_path / "0"
    tuned = tiny(many, planned_before, tiny_model, start="encoder", pivotal=1)
    task = InversionTask.of(tuned)
    with pytest.raises(SpecError, match="more than 8 inputs"):
        task.plan(PlannedInputs.read(task.output), Listener(), lambda: None)
    # So does an estimate of what is planned.
    with pytest.raises(SpecError, match="more than 8 inputs"):
        plan_only(task.input_plan, Listener())

    published = GeneratorConfig.published(1024)
    values = sum(
        9 * a * b for a, b in zip(published.widths, published.widths[1:], strict=False)
    ) + sum(9 * b * b for b in published.widths)
    assert TUNED_UNIT * 2 * values < 0.6e9


def test_values_that_are_not_finite_are_never_committed(
    images: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = way.tune

    def failing(*args: object) -> dict[str, torch.Tensor]:
        weights = made(*args)  # type: ignore[arg-type]
        weights["input.input"][0, 0, 0, 0, 0] = torch.nan
        return weights

    monkeypatch.setattr(way, "tune", failing)
    out = tmp_path / "out"
    with pytest.raises(FatalError, match="not finite"):
        run(tiny(images, out, tiny_model, start="encoder", iterations=0, pivotal=1))
    assert not (out / "generators").exists() or not any((out / "generators").iterdir())
    assert not entries(out)


@pytest.mark.parametrize("metric", ["l2", "lpips"])
def test_the_best_step_is_the_latent(
    metric: str, images: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    run(tiny(images, out, tiny_model, steps=4, save_steps="latents", best_step=metric))
    assert verify(str(out)).problems == []
    rows = pd.read_parquet(out / "latents").sort_values("source").reset_index()
    steps = pd.read_parquet(out / "steps").sort_values(["source", "step"])
    values = steps[metric].to_numpy().reshape(18, 4)
    assert rows.best_step.tolist() == (1 + values.argmin(axis=1)).tolist()
    assert len(set(rows.best_step)) > 1
    latents = np.stack(steps.latent).reshape(18, 4, -1)
    for index, row in rows.iterrows():
        assert np.array_equal(row.latent, latents[index, row.best_step - 1])
        assert row[metric] == values[index].min()
    kept = pd.read_parquet(out / "reconstructions").sort_values(["source", "step"])
    assert kept.step.tolist() == [step for best in rows.best_step for step in (0, best)]
    # And how many got worse after which step.
    expected = (np.diff(values, axis=1) > 0).sum(axis=0).tolist()
    assert read_status(str(out)).summary.worsened[metric] == expected
    assert json.loads((out / "run.json").read_text())["worsened"][metric] == expected
    assert sum(expected)
    first = next(step for step, count in enumerate(expected, 1) if count)
    text = f"{expected[first - 1]} of 18 faces after step {first}"
    assert text in " ".join(restyle("status", out).stdout.split())
    assert text in (out / "report.html").read_text()


def test_entries_of_earlier_versions_count_nothing(
    images: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    run(tiny(images, out, tiny_model, steps=2))
    for entry in (out / "_ledger").glob("unit-*.json"):
        record = json.loads(entry.read_text())
        del record["worsened"]
        entry.write_text(json.dumps(record))
    assert verify(str(out)).problems == []
    assert read_status(str(out)).summary.worsened == {}


def test_the_fingerprint_knows_every_option_and_none_of_old_outputs_changes() -> None:
    # As version 3.0 computed it, before there were these options.
    plain = resolved()
    fields = plain.model_dump(mode="json", exclude_none=True)
    assert not fields.keys() & {
        "start", "iterations", "target_loss", "pivotal", "seed", "noise", "best_step",
    }  # fmt: skip
    different = [
        {},
        {"best_step": "lpips"},
        {"start": "average"},
        {"start": "average", "iterations": 7},
        {"start": "average", "seed": 1},
        {"start": "average", "noise": 0.05},
        {"start": "average", "target_loss": 0.1},
        {"start": "average", "pivotal": 3},
        {"start": "encoder"},
        {"polish": 500},
    ]
    assert len({resolved(**each).fingerprint for each in different}) == len(different)
    assert resolved(start="average", iterations=500).fingerprint == (
        resolved(start="average").fingerprint
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("optimize --iterations -1", "--iterations"),
        ("optimize --iterations 0", "1 or more"),
        ("optimize --start encoder --iterations 0", "--pivotal"),
        ("optimize --start middle", "--start"),
        ("optimize --steps 3", "--steps cannot be combined"),
        ("optimize --target-loss 0", "--target-loss"),
        ("invert --pivotal 5", "no effect without an optimisation"),
        ("invert --best-step beauty", "no metric"),
        ("invert --best-step psnr", "add it to --metrics"),
        ("invert --start average --polish 5", "--polish cannot be combined"),
        ("invert --start encoder --best-step l2", "--best-step cannot be combined"),
    ],
)
def test_values_that_make_no_sense_end_in_one_line(
    words: str, reason: str, images: Path, tmp_path: Path
) -> None:
    command, *rest = words.split()
    done = restyle(command, images, "--out", tmp_path / "out", *rest)
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
