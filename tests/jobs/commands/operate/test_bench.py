"""``restyle bench`` from end to end on a tiny model: the table, and the same as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import restyle


def test_the_table_and_the_json_agree(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = restyle(
        *("bench", "--model", str(tiny_model), "--dtype", "fp32", "--batch", "2", "--steps", "2"),
        *("--repeats", "1", "--threads", "1", "--cpu-time", "--device", "cpu", "--json", str(file)),
    )
    assert result.returncode == 0, result.stderr
    content = json.loads(file.read_text())
    assert content["cpu_time"] is True
    rows = content["rows"]
    assert [(row["stage"], row["path"]) for row in rows] == [
        (stage, path) for path in ("plain", "fast") for stage in ("encoder", "synthesis", "loop")
    ]
    assert {row["dtype"] for row in rows} == {"fp32"}
    words = [line.split() for line in result.stdout.splitlines()]
    for row in rows:
        shown = f"{row['median'] * 1000:.1f}"
        assert any(line[:2] == [row["stage"], row["path"]] and shown in line for line in words)
    assert content["peak_flops"]["fp32"] > 0
    assert "times its bare convolutions" in " ".join(content["lines"])
