"""``restyle train``: bad specifications are one line; a run shows how it goes and goes on."""

import io
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from restyle.jobs.display.terminal import console
from restyle.jobs.display.training import TrainingDisplay
from tests.pseudo_terminal import PseudoTerminal
from tests.warm_command import restyle

SPEC = """
name = "toy"
generator = "faces64"
init = "faces64"
crops = ["crops.npz"]
depths = [1, 2, 2, 1]
fine_width = 160
synthetic = 1.0
[schedule]
images = 2
batch = 1
threads = 1
[losses]
lpips = 0
identity = 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "crops.npz", images=np.zeros((3, 64, 64, 3), np.uint8))
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    return tmp_path


def test_bad_specifications_are_one_line_and_block_nothing(folder: Path) -> None:
    cases = {
        "fine_width = 160": ("fine_width = 96", "does not fit SmallBackboneEncoder"),
        "synthetic = 1.0": ("synthetic = 1.5", "synthetic: Input should be less than"),
        '"crops.npz"': ('"damaged.npz"', "damaged.npz is no file of training crops"),
    }
    for old, (new, message) in cases.items():
        (folder / "spec.toml").write_text(SPEC.replace(old, new))
        run = restyle("train", "encoder", folder / "spec.toml", "--out", folder / "run")
        assert run.returncode == 2
        assert run.stderr.startswith("error: ")
        assert message in run.stderr
        assert run.stderr.count("\n") == 1
        assert not (folder / "run" / "checkpoint.pt").exists()
    # The repaired specification may use the folder: nothing was trained in it.
    (folder / "spec.toml").write_text(SPEC)
    run = restyle("train", "encoder", folder / "spec.toml", "--out", folder / "run")
    assert run.returncode == 0, run.stderr
    assert (folder / "run" / "checkpoint.pt").exists()


def spec_of(folder: Path, images: int) -> Path:
    schedule = f"images = {images}\nlog_every = 2\nsample_every = 2"
    (folder / "spec.toml").write_text(SPEC.replace("images = 2", schedule))
    return folder / "spec.toml"


def test_a_person_sees_how_it_goes_and_how_to_go_on(folder: Path) -> None:
    words = ["train", "encoder", spec_of(folder, 9_999), "--out", folder / "run"]
    with PseudoTerminal(*words) as terminal:
        terminal.wait_for(r"training .*\d/9999 .*images/s, [\d:]+ left")
        terminal.wait_for(r"images 2  images_per_second [\d.]+  l2_first ")
        terminal.wait_for(rf"samples {folder}/run/samples/00000002.png")
        terminal.interrupt()
        assert terminal.ended() == 130
    assert "ending after this step" in terminal.shown
    (line,) = re.findall(r"interrupted after (\d+) of 9,999 images.*", terminal.shown)
    assert f"restyle train encoder {folder}/spec.toml --out {folder}/run" in terminal.shown
    state = torch.load(folder / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == int(line)
    seen = int(line) + 2
    again = restyle(*words[:2], spec_of(folder, seen), *words[3:])
    assert (again.returncode, again.stderr) == (0, "")
    assert f"samples {folder}/run/samples/{seen:08d}.png" in again.stdout
    assert f"trained with {seen} images; make a model of it: restyle train export" in again.stdout
    log = (folder / "run" / "losses.jsonl").read_text(encoding="utf-8")
    images = [json.loads(line)["images"] for line in log.splitlines()]
    assert images == list(range(2, seen + 1, 2))


def test_a_second_ctrl_c_ends_at_once() -> None:
    display = TrainingDisplay(console(io.StringIO()))
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        with display:
            assert not display.is_stopping()
            signal.raise_signal(signal.SIGTERM)
            assert display.is_stopping()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(each, handler)
