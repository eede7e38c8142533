"""Killing ``restyle edit`` in the middle of its work loses no face and doubles none."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from restyle.core.editing.directions import About, Direction
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from tests.faults.running_job import RunningJob, entries, leftovers, make_images
from tests.pipeline import in_process
from tests.warm_command import restyle

IMAGES = 64
"""In units of eight: eight units."""

STRENGTHS = np.linspace(-3, 3, 48)
STYLES = slice(1, 4)


def make_inversion(folder: Path, model: Path) -> Path:
    make_images(folder / "images", IMAGES)
    settings = InversionSettings(
        model=str(model), steps=1, align=False, metrics=(), dtype="fp32", reconstructions="none"
    )
    request = Request(str(folder / "images"), str(folder / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    return folder / "out"


def test_any_kill_then_the_same_command_then_verify(tmp_path: Path, tiny_model: Path) -> None:
    out, edits = make_inversion(tmp_path, tiny_model), tmp_path / "edits"
    vector = np.random.default_rng(1).normal(size=32)
    direction = Direction.of(vector, About(name="any", kind="sefa", scale=2, layers=(1, 2, 3)))
    command = [
        *("edit", out, "--executor", "ray", "--to", edits, "--direction", direction.save(tmp_path)),
        *("--strength=-3..3/48", "--no-score", "--device", "cpu", "--invert-actors", "1:2"),
    ]

    # The driver, as soon as a unit is committed; its workers end with it.
    with RunningJob(command) as job:
        job.wait_for(lambda: entries(edits), "a unit")
        workers = job.workers("edit")
        job.process.kill()
        job.process.communicate()
        assert psutil.wait_procs(workers, timeout=60)[1] == []
    first = entries(edits)
    assert 1 <= len(first) < IMAGES // 8
    assert restyle("verify", edits).returncode == 1
    assert "incomplete; the same command continues" in restyle("status", edits).stdout

    # All workers, as soon as they are at work: costs nothing but time.
    with RunningJob(command) as job:
        job.busy("edit")
        for worker in job.workers("edit"):
            worker.kill()
        code, printed, error = job.end()
    assert code == 0, error
    assert f"{IMAGES} faces, 48 edits each" in printed
    done = entries(edits)
    assert len(done) == IMAGES // 8
    assert {name: done[name] for name in first} == first
    assert list(leftovers(edits)) == []

    proof = restyle("verify", edits)
    assert (proof.returncode, proof.stdout.splitlines()[-1]) == (0, "clean")
    check_rows(out, edits, direction)

    again = restyle(*command)
    assert "0 photographs in this run" in again.stdout
    assert entries(edits) == done


def check_rows(out: Path, edits: Path, direction: Direction) -> None:
    """Every face stands there with every edit, and each latent is what numpy says."""
    before = pd.read_parquet(out / "latents").set_index("image_id")
    rows = pd.read_parquet(edits / "edits").sort_values(["image_id", "edit"])
    assert len(rows) == IMAGES * len(STRENGTHS)
    assert not rows.duplicated(["image_id", "revision", "face", "edit"]).any()
    originals = np.stack(before.loc[rows.image_id].latent).reshape(len(rows), -1, 32)
    amounts = np.tile(STRENGTHS, IMAGES)
    expected = originals.astype(np.float64)
    unit = direction.vector / np.linalg.norm(direction.vector)
    expected[:, STYLES] += amounts[:, None, None] * 2 * unit
    np.testing.assert_allclose(rows.strength_any, amounts, rtol=1e-6)
    found = np.stack(rows.latent).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
