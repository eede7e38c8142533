"""``restyle similar`` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import restyle
from tests.pipeline.fabricated import Made, fabricate


def test_rows_and_errors(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=12, reconstructions="none"))
    done = restyle("similar", tmp_path, "000003.jpg", "--count", 3, "--format", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 3
    assert (rows[0]["source"], rows[0]["distance"]) == ("/photos/000003.jpg", 0)
    assert rows[1]["distance"] <= rows[2]["distance"]
    table = restyle("similar", tmp_path, "000003.jpg", "--layers", "0-1")
    assert len(table.stdout.splitlines()) == 2 + 10
    for arguments in (
        ["nobody"],
        ["000003.jpg", "--layers", "a"],
        ["000003.jpg", "--layers", "60"],
    ):
        wrong = restyle("similar", tmp_path, *arguments)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert len(wrong.stderr.splitlines()) == 1
