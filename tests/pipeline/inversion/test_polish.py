"""``--polish``: what an output holds, on both executors, killed and continued."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import to_bytes
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.viewer.run import ViewedRun
from tests.faults.running_job import RunningJob, entries
from tests.pipeline.inversion.test_run import run
from tests.pipeline.resolved import resolved
from tests.warm_command import restyle

COUNT, STEPS, POLISH = 18, 2, 6
UNITS = 3
"""Of eight images at most."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{index:02d}.png")
    return folder


def command(images: Path, out: Path, model: Path, **options: object) -> list[object]:
    words = f"--no-align --metrics l2,lpips --dtype fp32 --device cpu --steps {STEPS}"
    words += f" --polish {POLISH}"
    more = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return ["invert", images, "--out", out, "--model", model, *words.split(), *more]


def latents(out: Path) -> npt.NDArray[np.float32]:
    """The latents in the order of the images."""
    rows = pd.read_parquet(out / "latents").sort_values("source")
    assert len(rows) == COUNT
    return np.stack(rows["latent"])


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An output of one run in one process, in batches of 18."""
    out = tmp_path_factory.mktemp("whole") / "out"
    words = command(images, out, tiny_model, executor="local")
    assert restyle(*words, "--batch-size", 18, env=ONE_THREAD).returncode == 0
    return out


def test_an_output_holds_the_encoders_last_step_and_the_polished_one(
    whole: Path, images: Path, tiny_model: Path
) -> None:
    assert verify(str(whole)).problems == []
    files = sorted(images.iterdir())
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    direct = invert(
        model, pixels, STEPS, polish=POLISH, metrics=["l2", "lpips"], reconstructions="all"
    )
    assert direct.reconstructions is not None
    assert np.array_equal(latents(whole), direct.latents[:, -1].flatten(1).numpy())
    rows = pd.read_parquet(whole / "latents").sort_values("source")
    assert rows.steps.tolist() == [STEPS + 1] * COUNT
    np.testing.assert_allclose(rows.lpips, direct.metrics["lpips"][:, -1], rtol=1e-3)

    steps = pd.read_parquet(whole / "steps").sort_values(["source", "step"])
    assert steps.step.tolist() == [1, 2, 3] * COUNT
    np.testing.assert_allclose(
        steps.l2.to_numpy().reshape(COUNT, 3), direct.metrics["l2"], rtol=1e-3
    )
    loss = (steps.l2 + 0.8 * steps.lpips).to_numpy().reshape(COUNT, 3)
    assert (loss[:, 2] < loss[:, 1]).all()

    pictures = pd.read_parquet(whole / "reconstructions").sort_values(["source", "step"])
    assert pictures.step.tolist() == [0, 2, 3] * COUNT
    stored = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures.image]
    for index in range(COUNT):
        for place, step in ((1, 1), (2, 2)):
            made = to_bytes(direct.reconstructions[index, step][None])[0].permute(1, 2, 0).numpy()
            difference = stored[3 * index + place].astype(int) - made.astype(int)
            assert np.abs(difference).max() <= 1


def test_record_status_report_and_page_tell_of_it(whole: Path) -> None:
    record = json.loads((whole / "run.json").read_text())
    assert record["settings"]["polish"] == POLISH
    assert len(record["means"]["l2"]) == STEPS + 1
    assert f"2 steps and {POLISH} of polish" in restyle("status", whole).stdout
    report = (whole / "report.html").read_text()
    assert "polished</figcaption>" in report
    assert f"{POLISH} steps of optimisation" in report
    viewed = ViewedRun(str(whole))
    assert (viewed.about()["steps"], viewed.about()["polish"]) == (STEPS + 1, POLISH)
    face = viewed.face(0)
    assert face["pictures"] == [0, 2, 3]
    # What polishing changed can be looked at.
    assert face["changes"] == [3]
    assert face["steps"][2]["l2"] == pytest.approx(face["metrics"]["l2"])


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_killed_and_continued_it_has_the_same_latents(
    whole: Path, images: Path, tmp_path: Path, tiny_model: Path, executor: str
) -> None:
    """To the bit, though the batches are others."""
    out = tmp_path / "out"
    first = command(images, out, tiny_model, executor=executor)
    with RunningJob([*first, "--batch-size", "3"], env=ONE_THREAD) as job:
        job.wait_for(lambda: entries(out) or job.process.poll() is not None, "a committed unit")
        workers = job.workers("child") + job.workers("align") + job.workers("invert")
        job.process.send_signal(signal.SIGKILL)
        job.process.communicate()
        for worker in workers:
            worker.wait(60)
    assert len(entries(out)) < UNITS
    done = restyle(*command(images, out, tiny_model, executor="local"), "--batch-size", "5")
    assert done.returncode == 0, done.stderr
    assert verify(str(out)).problems == []
    assert np.array_equal(latents(out), latents(whole))


def test_zero_is_none(images: Path, tmp_path: Path, tiny_model: Path) -> None:
    """As is an output from before there was polish, which has no such setting."""

    def request(polish: int) -> Request:
        settings = InversionSettings(
            model=str(tiny_model), steps=1, align=False, metrics=(), dtype="fp32", polish=polish
        )
        return Request(str(images), str(tmp_path / "out"), settings, device="cpu")

    run(request(0))
    recorded = json.loads((tmp_path / "out" / "_ledger" / "settings.json").read_text())
    assert recorded["polish"] is None
    with pytest.raises(SpecError, match="polish: None -> 3"):
        run(request(3))


def test_the_fingerprint_knows_it() -> None:
    assert resolved(polish=0).fingerprint == resolved().fingerprint
    assert len({resolved(polish=polish).fingerprint for polish in (0, 1, 50)}) == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--polish -1", "--polish"),
        ("--polish 1001", "1000"),
        ("--polish many", "--polish"),
        ("--polish 5 --tolerance 0.1", "leave --tolerance out"),
        ("--polish 5 --bootstrap faces64", "leave --bootstrap out"),
    ],
)
def test_values_that_make_no_sense_end_in_one_line(
    words: str, reason: str, images: Path, tmp_path: Path
) -> None:
    done = restyle("invert", images, "--out", tmp_path / "out", *words.split())
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
