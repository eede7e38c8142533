"""The command line: exit codes, one line per error, and quick answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from restyle.jobs.display.progress import describe, duration
from restyle.pipeline.accounting.run_record import archive_run
from restyle.pipeline.listener import Progress
from tests.command import ROOT, heavy_imports
from tests.pipeline.accounting.test_run_record import record
from tests.pipeline.fabricated import Made, fabricate
from tests.warm_command import restyle


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["invert", "x", "--out", "y", "--colour", "red"], "No such option: --colour"),
        (["invert", "x"], "Missing option '--out'"),
        (["invert", "x", "--out", "y", "--steps", "0"], "--steps"),
        (
            ["invert", "x", "--out", "y", "--faces", "two"],
            "Invalid value for '--faces': 'two' is not one of 'largest', 'all'; see",
        ),
        (["invert", "x", "--out", "y", "--metrics", "beauty"], "beauty"),
        (["invert", "x", "--out", "y", "--model", "nobody"], "nobody"),
        (["invert", "/no/such", "--out", "y", "--model", "MODEL"], "/no/such does not exist"),
        (["invert", "s3://u:p@b/x", "--out", "y", "--model", "MODEL"], "password"),
        (
            ["invert", ".", "--out", "y", "--landmarks", "/no/such.csv"],
            "/no/such.csv does not exist",
        ),
        (
            ["invert", ".", "--out", "y", "--landmarks", "README.md"],
            "--landmarks README.md: no col",
        ),
        (["invert", "x", "--out", "y", "--landmarks", "https://u:p@h/l.csv"], "password"),
        (["invert", "a\udcff.jpg", "--out", "y"], "INPUT: holds bytes that are not text in UTF-8"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["status", "/no/such"], "/no/such holds no output of restyle"),
        (["verify", "/no/such"], "/no/such holds no output of restyle"),
        (["runs", "/no/such"], "/no/such holds no record of a run"),
        (["invert", "--spec", "/no/such.toml"], "/no/such.toml does not exist"),
        (["spec", "check", "/no/such.toml"], "/no/such.toml does not exist"),
        (["submit", "examples/job.toml"], "--address"),
        (["submit", "examples/job.toml", "--address", "head:8265"], "http://HOST:8265"),
        (["submit", "examples/job.toml", "--address", "http://u:p@h:1"], "leave user, password"),
        (
            ["submit", "examples/job.toml", "--address", "http://127.0.0.1:9"],
            "http://127.0.0.1:9 cannot be reached",
        ),
        (["convert", "/no/such.pt", "/no/where"], "/no/such.pt"),
        (["edit", "/no/such", "--direction", "smile", "--to", "y"], "/no/such holds no output"),
        (["bench", "--dtype", "fp16"], "fp32,bf16"),
        (["bench", "--batch", "1,0"], "--batch '0'"),
        (["bench", "--json", "/no/such/file"], "/no/such/file"),
        (["bench", "--align", "/no/such"], "/no/such"),
        (["bench", "--align", ".", "--faces", "most"], "--faces 'most'"),
        (["bench", "--align", ".", "--detector", "eyes"], "--detector 'eyes'"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    arguments: list[str], words: str, tiny_model: Path
) -> None:
    result = restyle(*(str(tiny_model) if each == "MODEL" else each for each in arguments))
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


COMPUTING = """
import threading, torch
from restyle.jobs import cli

def compute():
    matrix = torch.zeros(64, 64)
    while True:
        matrix @ matrix
        computing.set()

computing = threading.Event()
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
computing.wait()
cli._exit(cli.INTERRUPTED)
"""


def test_ctrl_c_before_a_run_has_begun_is_said() -> None:
    code = (
        "import sys; from restyle.jobs import cli; from restyle.pipeline.accounting import status\n"
        "def stop(out): raise KeyboardInterrupt\n"
        "status.read_status = stop; sys.argv = ['restyle', 'status', 'OUT']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_threads_that_compute_at_the_end_change_no_exit_code() -> None:
    """The interpreter's shutdown would abort the process when torch returns to Python."""
    ended = subprocess.run(
        [sys.executable, "-c", COMPUTING], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["invert", "--help"],
        ["invert", "/no/such"],
        ["status", "/no/such"],
        ["verify", "/no/such"],
        ["repair", "/no/such"],
        ["query", "/no/such", "select 1"],
        ["runs", "/no/such"],
        ["directions", "list"],
        ["spec", "check", "examples/job.toml"],
        ["submit", "examples/none.toml", "--address", "http://127.0.0.1:9"],
        ["submit", "--help"],
        ["status", "OUT"],
        ["status", "OUT", "--json"],
        ["runs", "OUT", "--json"],
        ["verify", "OUT", "--json"],
        ["query", "OUT", "select 1"],
        ["query", "OUT", "select * from latents", "--out", "OUT.parquet"],
    ],
)
def test_looking_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    if any(word.startswith("OUT") for word in arguments):
        # Before the process below: this one may load what it likes.
        storage = fabricate(out, Made(faces=2))
        archive_run(storage, record("20260102T000000Z-00000000", state="complete"))
    result, imported = heavy_imports(*(word.replace("OUT", str(out)) for word in arguments))
    # Arrow loads pandas, where it is installed, with the first numbers that it hands out.
    assert imported <= ({"pandas"} if out.exists() else set())
    assert not out.exists() or result.returncode == 0


def test_help_names_every_option() -> None:
    text = restyle("invert", "--help").stdout
    options = (
        "--out --model --steps --align --no-align --faces --save-steps --reconstructions "
        "--metrics --dtype --device --batch-size --limit --max-reject-rate --spec --input-format "
        "--column --landmarks --address --align-actors --invert-actors --gpus-per-actor --bootstrap"
    )
    assert [option for option in options.split() if option not in text] == []


def test_the_command_line_wins_over_the_specification(tmp_path: Path, tiny_model: Path) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text('[input]\nsource = "nothing here"\n[output]\nout = "out"\n', encoding="utf-8")
    of_the_file = restyle("invert", "--spec", spec, "--model", tiny_model)
    assert f"{tmp_path}/nothing here does not exist" in of_the_file.stderr
    given = restyle("invert", "/no/such", "--spec", spec, "--model", tiny_model)
    assert "/no/such does not exist" in given.stderr
    assert not (tmp_path / "out").exists()


def test_progress_in_words() -> None:
    assert describe(Progress(0, 10, 0, 3.0)) == ""
    assert describe(Progress(10, 40, 2, 5.0)) == "2 images/s, 0:15 left, 2 rejects"
    assert describe(Progress(10, 40, 1, 0.5)) == "20 images/s, 0:02 left, 1 reject"
    assert [duration(s) for s in (0, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]
