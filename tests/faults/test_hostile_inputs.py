"""A small part of the soak of hostile inputs; ``make soak`` runs it in full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.soak.hostile_inputs import MOST_MEMORY, count, faults_of, run
from tests.soak.hostile_world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "inputs"
    folder.mkdir()
    yield make_world(folder, files=40, names=24, entries=50, seed=1)
    # Names that other programs trip over.
    subprocess.run(["rm", "-rf", folder], check=True)


def test_hostile_inputs_cost_themselves_alone(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, errors, watch = run(world, out, timeout=600)
    assert code == 0, errors
    assert faults_of(world, out) == []
    assert watch.memory < MOST_MEMORY
    inverted, rejects = count(out)
    assert inverted >= len(world.photographs)
    assert {"unreadable", "not_an_image", "damaged_archive", "crashed", "too_large"} <= set(rejects)
    # A row that is missing or there twice is noticed.
    for change in (lambda rows: rows[1:], lambda rows: pd.concat([rows, rows[:1]])):
        path = next((out / "rejects").glob("*.parquet"))
        sound = path.read_bytes()
        change(pd.read_parquet(path)).to_parquet(path)
        assert faults_of(world, out)
        path.write_bytes(sound)
