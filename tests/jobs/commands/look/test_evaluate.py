"""``restyle evaluate`` as a command: what it refuses, in one line, and its JSON."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.warm_command import restyle


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "magic"], "there is no method 'magic'; choose among restyle:N, single-pass"),
        (["--method", "polish:x"], "write polish:N with a number from 1 to 1,000"),
        (
            ["--method", "single-pass", "--models", "toon64"],
            "toon64:restyle-psp has no single",
        ),
        (["--models", "nothing"], "no model is called 'nothing'"),
        (["--direction", "age"], "nothing measures its change; choose among smile, pose, mouth"),
        (["--change", "much"], "strength 'much'"),
        (["--identity-weights", "README.md"], "README.md is text ('# ReStyle Pipeline')"),
        (["--identity-weights", "/dev/zero"], "/dev/zero cannot be read: it is a device"),
        (["--identity-weights", "samples"], "samples cannot be read: it is a folder, not a file"),
        (["--models", ","], "give at least one --method and one of --models"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    photos: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    done = restyle("evaluate", photos, "--out", tmp_path / "out", *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_json_has_the_rows_of_the_table(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "smile.jpg", tmp_path / "photos")
    out = tmp_path / "out"
    words = ["evaluate", tmp_path / "photos", "--out", out, "--models", tiny_model, "--json"]
    words += ["--method", "single-pass", "--metrics", "l2", "--executor", "local"]
    done = restyle(*words)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["faces"] == 1
    table = pd.read_parquet(out / "table.parquet")
    assert len(made["table"]) == len(table) == 3
    for row, wanted in zip(made["table"], table.to_dict("records"), strict=True):
        for name, value in wanted.items():
            missing = isinstance(value, float) and math.isnan(value)
            assert row[name] == (None if missing else value)
    assert [Path(each).name for each in made["written"]] == [
        "evaluation.html",
        "table.parquet",
        "table.md",
    ]
    assert all(Path(each).is_file() for each in made["written"])
