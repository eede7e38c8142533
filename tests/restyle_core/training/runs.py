"""Runs of ``restyle train`` as tests start and read them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from restyle.core.training.spec import TrainingSpec


def log_of(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's loss log, without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def toml(values: dict[str, Any]) -> str:
    """Numbers, strings and lists, and tables of these, as TOML; JSON's spelling is the same."""
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines)


def train_with_two_processes(what: str, spec: TrainingSpec, folder: Path) -> None:
    """``torchrun`` with two processes; ``what`` is the command of ``restyle train``."""
    path = folder.with_suffix(".toml")
    values = spec.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    path.write_text(toml(values))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "restyle.jobs.cli", "train", what, str(path)]
    run = subprocess.run(
        [*command, "--out", str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
