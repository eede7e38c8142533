"""SIGTERM ends a run as Ctrl-C does: it is recorded, and the same command finishes the job."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from PIL import Image

from tests.command import start
from tests.warm_command import restyle


def test_sigterm_is_ctrl_c_from_afar(tmp_path: Path, photos: Path, tiny_model: Path) -> None:
    # Several units of eight, so that one is committed while others are not.
    (tmp_path / "in").mkdir()
    with Image.open(photos / "smile.jpg") as photograph:
        photograph.reduce(2).save(tmp_path / "in" / "0.jpg")
    for number in range(1, 64):
        shutil.copy(tmp_path / "in" / "0.jpg", tmp_path / "in" / f"{number}.jpg")
    out = tmp_path / "out"
    arguments = [
        "invert", tmp_path / "in", "--out", out, "--model", tiny_model, "--executor", "ray",
        "--steps", 1, "--metrics", "none", "--device", "cpu",
    ]  # fmt: skip
    run = start(*arguments)
    while run.poll() is None and not list((out / "_ledger").glob("unit-*.json")):
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 130, error
    assert error.splitlines()[-1].startswith("interrupted; ")
    assert "SIGTERM" not in error
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["state"] == "interrupted"
    assert record["counts"]["pending_images"] > 0

    assert restyle(*arguments).returncode == 0
    verified = restyle("verify", out)
    assert verified.stdout.splitlines()[-1] == "clean"
    states = [line.split()[1] for line in restyle("runs", out).stdout.splitlines()[1:]]
    assert states == ["interrupted", "complete"]
