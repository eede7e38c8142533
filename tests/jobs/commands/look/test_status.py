"""``restyle status`` and ``runs`` know a run that works from one that died."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from restyle.core.stage_clock import ALIGNMENT
from restyle.pipeline.storage.claim import own_claim
from restyle.pipeline.storage.filesystem import open_storage
from tests.command import start
from tests.faults.running_job import RunningJob
from tests.pipeline.fabricated import Made, fabricate
from tests.warm_command import restyle


def document(*arguments: object, code: int = 0) -> Any:
    done = restyle(*arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    return json.loads(done.stdout)


def test_a_run_works_until_it_is_killed(tmp_path: Path, photos: Path, tiny_model: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        shutil.copy(photos / "smile.jpg", folder / f"{number}.jpg")
    words = ("--model", tiny_model, "--steps", 1, "--metrics", "none", "--device", "cpu")
    with RunningJob(["invert", folder, "--out", out, *words]) as job:
        # Written after run.json.
        job.wait_for(lambda: [*out.glob("_ledger/run-*.json")], "its dated record")
        # Stopped, so that it neither ends nor beats while it is looked at.
        job.process.send_signal(signal.SIGSTOP)
        working = document("status", out)
        shown = restyle("status", out).stdout
        (listed,) = document("runs", out)
        job.process.send_signal(signal.SIGKILL)
        job.process.wait()
    assert working["run"]["state"] == listed["state"] == "running"
    assert f"process {job.process.pid} on " in working["run"]["driver"]
    assert (working["state"], working["pending"], working["inputs"]) == ("incomplete", 3, 3)
    assert "incomplete; a run works on it" in shown
    (claim,) = (out / "_ledger").glob("driver-*.json")
    seen = json.loads(claim.read_text(encoding="utf-8"))["seen"]
    dead = document("status", out)["run"]
    assert (dead["state"], dead["last_sign_of_life"], dead["finished"]) == ("died", seen, None)
    assert f"died, last sign of life {seen}" in restyle("status", out).stdout
    assert f"died, last sign of life {seen}" in restyle("runs", out).stdout
    assert restyle("invert", folder, "--out", out, *words).returncode == 0
    done, record = document("status", out), json.loads((out / "run.json").read_text())
    assert {*ALIGNMENT, "align", "invert", "starved"} <= done["seconds"].keys()
    assert done["seconds"] == record["timings"]["stages"]
    assert done["bottleneck"] == record["timings"]["bottleneck"] is not None
    shown = " ".join(restyle("status", out).stdout.split())
    assert f"stages align {done['seconds']['align']:.1f} s (read " in shown
    assert f"bottleneck {done['bottleneck']} report" in shown
    states = [(run["state"], run["last_sign_of_life"]) for run in document("runs", out)]
    assert states == [("died", None), ("complete", None)]


def test_watched_until_the_run_ends(tmp_path: Path, photos: Path, tiny_model: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(photos / "smile.jpg", folder)
    words = ("--model", tiny_model, "--steps", 1, "--metrics", "none", "--device", "cpu")
    with RunningJob(["invert", folder, "--out", out, *words]) as job:
        job.wait_for(lambda: [*out.glob("_ledger/run-*.json")], "its dated record")
        job.process.send_signal(signal.SIGSTOP)
        watching = start("status", out, "--watch", 0.2, "--json")
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["run"]["state"], first["pending"]) == ("running", 1)
        again = json.loads(watching.stdout.readline())
        assert watching.poll() is None
        job.process.send_signal(signal.SIGCONT)
        rest, errors = watching.communicate(timeout=300)
        assert job.process.wait() == 0
    assert (watching.returncode, errors) == (0, "")
    last = json.loads(rest.splitlines()[-1])
    assert (last["state"], last["run"]["state"], last["in_use_by"]) == (
        "complete",
        "complete",
        None,
    )
    assert again.keys() == last.keys() == document("status", out).keys()
    # Without a run it is shown once.
    shown = restyle("status", out, "--watch", 100)
    assert (shown.returncode, shown.stdout) == (0, restyle("status", out).stdout)


def test_what_another_command_uses_is_no_run(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=4))
    claim = own_claim().model_copy(update={"state": "held", "started": "2999-01-01T00:00:00+00:00"})
    open_storage(str(tmp_path)).write(claim.name, claim.model_dump_json().encode())
    found = document("status", tmp_path)
    assert found["in_use_by"] == str(claim)
    assert found["run"]["state"] == "complete"
    assert f"in use by  {claim}" in restyle("status", tmp_path).stdout


@pytest.mark.parametrize("is_sound", [True, False])
def test_verify_for_programs(tmp_path: Path, is_sound: bool) -> None:
    fabricate(tmp_path, Made(faces=6, rejects=2))
    if not is_sound:
        next((tmp_path / "latents").iterdir()).unlink()
    proof = document("verify", tmp_path, code=0 if is_sound else 1)
    assert proof["clean"] is is_sound
    assert bool(proof["problems"]) is not is_sound
    if is_sound:
        assert [proof[name] for name in ("inputs", "rejects", "faces")] == [8, 2, 6]


def test_plan_for_programs(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photos / "smile.jpg", tmp_path / "in" / name)
    planned = document("plan", tmp_path / "in", "--out", tmp_path / "out")
    assert [planned[name] for name in ("listed", "new", "inputs", "pending")] == [2, 2, 2, 2]
    assert [Path(name).is_file() for name in planned["written"]] == [True]


def test_documents_have_no_text_that_controls_a_terminal(tmp_path: Path) -> None:
    out = tmp_path / "a\x1b[2Jb"
    fabricate(out, Made(faces=2))
    pipe = subprocess.run(
        ["script", "-qec", f".venv/bin/python -m restyle status '{out}' --json", "/dev/null"],
        check=False,
        capture_output=True,
    )
    assert b"\x1b" not in pipe.stdout
