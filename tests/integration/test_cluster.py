"""``restyle invert --address``: a real Ray cluster of several nodes, all on this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from restyle.core.editing.directions import About, Direction
from restyle.pipeline.accounting.verify import verify
from tests.cluster_of_nodes import ClusterOfNodes, processes_of
from tests.command import restyle, start

IMAGES = 48
"""In units of eight: six units."""

OPTIONS = ["--no-align", "--metrics=none", "--reconstructions=none", "--dtype=fp32"]
PATIENCE = 600


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterOfNodes]:
    """A node that is marked for alignment, and one that is not."""
    with ClusterOfNodes(0) as cluster:
        cluster.add(resources={"align": 1.0}, wait=False)
        cluster.add()
        yield cluster


def make_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def workers_of(node: Any) -> dict[int, str]:
    """The actors of this project on a node, by process, with their stages."""
    found = {}
    for process in processes_of(node):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        for stage in ("AlignStage", "InvertStage"):
            if stage in line:
                found[process.pid] = stage
    return found


def test_a_cluster_does_the_work_and_alignment_goes_to_its_nodes(
    cluster: ClusterOfNodes, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    nodes = dict(zip(("marked", "plain"), cluster.nodes, strict=True))
    seen: dict[str, dict[int, str]] = {name: {} for name in nodes}
    process = start(
        *("invert", make_images(tmp_path / "images", IMAGES), "--out", out),
        *("--model", tiny_model, *OPTIONS, "--steps", 12, "--batch-size", 1),
        *("--address", cluster.address),
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < deadline
            for name, node in nodes.items():
                seen[name] |= workers_of(node)
            time.sleep(0.1)
        printed, error = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, error
    assert "device cpu" in error
    assert f"{IMAGES} of {IMAGES} accounted for" in printed
    # Alignment only where it is meant to be; inversion may be on both.
    assert "AlignStage" in seen["marked"].values()
    assert "AlignStage" not in seen["plain"].values()
    assert "InvertStage" in {**seen["marked"], **seen["plain"]}.values()
    assert verify(str(out)).problems == []
    latents = pd.read_parquet(out / "latents", columns=["image_id"])
    assert latents.image_id.nunique() == len(latents) == IMAGES
    assert not list(out.glob("_ledger/try-*"))
    edit_on(cluster, out, tmp_path)
    # The cluster goes on living, and nothing of the run does.
    for name, node in nodes.items():
        assert psutil.pid_exists(node.all_processes["raylet"][0].process.pid)
        remaining = [each for each in processes_of(node) if each.pid in seen[name]]
        assert psutil.wait_procs(remaining, timeout=PATIENCE)[1] == []


def edit_on(cluster: ClusterOfNodes, out: Path, folder: Path) -> None:
    """Edit what the cluster has inverted, on the cluster; the direction's file is not there."""
    vector = np.random.default_rng(0).normal(size=32)
    direction = Direction.of(vector, About(name="any", kind="sefa", scale=1)).save(folder)
    edits = folder / "edits"
    done = restyle(
        *("edit", out, "--direction", direction, "--strength", "-1,1", "--to", edits),
        *("--no-score", "--address", cluster.address, "--invert-actors", "1:2"),
    )
    assert done.returncode == 0, done.stderr
    assert f"{IMAGES} faces, 2 edits each" in done.stdout
    assert restyle("verify", edits).stdout.splitlines()[-1] == "clean"


def test_a_run_without_a_place_ends_with_one_line(
    cluster: ClusterOfNodes, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    refused = restyle(
        *("invert", make_images(tmp_path / "images", 1), "--out", out, "--model", tiny_model),
        *(*OPTIONS, "--device", "cuda", "--address", cluster.address),
        env={"RESTYLE_PATIENCE": "5"},
    )
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert lines[-1].startswith("error: inversion needs 1 GPU, which no node of the cluster offers")
    assert any("no GPU is there yet" in line for line in lines)
    assert "Traceback" not in refused.stderr
    assert not out.exists()


def test_nobody_at_the_address_is_said_at_once(tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        refused = restyle(
            *("invert", make_images(tmp_path / "images", 1), "--out", out),
            *("--model", tiny_model, "--address", address),
        )
    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert f"no Ray cluster answers at {address}" in line
    assert not out.exists()
