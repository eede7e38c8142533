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


def test_alignment_is_timed_against_the_recipe(photos: Path, tmp_path: Path) -> None:
    """Real photographs: faces as a second call of the recipe itself finds them."""
    for name in ("two friends.jpg", "smile.jpg", "unusable/text.jpg", "unusable/landscape.jpg"):
        (tmp_path / Path(name).name).write_bytes((photos / name).read_bytes())
    file = tmp_path / "bench.json"
    result = restyle(
        *("bench", "--align", str(tmp_path), "--faces", "all", "--detector", "exact"),
        *("--repeats", "1", "--json", str(file)),
    )
    assert result.returncode == 0, result.stderr
    content = json.loads(file.read_text())
    assert sorted(Path(row["name"]).name for row in content["photographs"]) == [
        "landscape.jpg",
        "smile.jpg",
        "two friends.jpg",
    ]
    agreement = content["agreement"]
    assert (agreement["exact"], agreement["fast"], agreement["same"]) == (3, 3, 3)
    assert (agreement["close"], agreement["worst"][0]) == (1.0, 0.0)
    assert sum(rate["photographs"] for rate in content["speeds"]) == 3
    for rate in content["speeds"]:
        assert rate["ratio"] == rate["fast"] / rate["exact"]
        assert f"{rate['exact']:.2f}" in result.stdout
        assert set(rate["stages"]) == {"decode", "detect", "landmarks", "crop"}
    assert "3 of them found (100.0%), 0 others" in result.stdout
