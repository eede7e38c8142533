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
from restyle.pipeline.execution.ray import engine
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener, Progress
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


class Published(Listener):
    """Waits at a unit until the cluster's nodes offer what the units before came to.

    Ray's agents take measures in one by one, and a unit may end before those of the last one were
    given to the cluster. So it waits a while, and at the next unit again. The agents go on offering
    what earlier runs came to, so only those of one output folder count.
    """

    def __init__(self, cluster: ClusterOfNodes, out: str) -> None:
        self._cluster = cluster
        self._out = out
        self._done = self._units = 0
        self.stages: dict[str, int] = {}
        self.offered: dict[tuple[str, str | None], float] = {}
        self.is_found = False

    def occupied(self, stage: str, working: int, waiting: int | None) -> None:
        self.stages[stage] = working
        assert waiting is None

    def advanced(self, progress: Progress) -> None:
        deadline = time.monotonic() + 20
        while self._done and not self.is_found and time.monotonic() < deadline:
            self.offered = self._measures()
            stages = {("ray_restyle_stage_units", stage) for stage in self.stages}
            self.is_found = (
                self._expected().items() <= self.offered.items() and stages <= self.offered.keys()
            )
            time.sleep(0.1)
        if progress.done > self._done:
            self._done, self._units = progress.done, self._units + 1

    def _measures(self) -> dict[tuple[str, str | None], float]:
        """What the nodes offer, by name and the label that tells series of a name apart."""
        found: dict[tuple[str, str | None], float] = {}
        for name, series in self._cluster.measures("ray_restyle_").items():
            for labels, value in series:
                if labels["out"] == self._out:
                    key = name, labels.get("stage") or labels.get("state")
                    found[key] = found.get(key, 0.0) + value
        return found

    def _expected(self) -> dict[tuple[str, str | None], float]:
        return {
            ("ray_restyle_run_info", None): 1.0,
            ("ray_restyle_units_total", None): self._units,
            ("ray_restyle_inputs_total", None): self._done,
            ("ray_restyle_faces_total", None): self._done,
            ("ray_restyle_output_inputs", "done"): self._done,
            ("ray_restyle_output_inputs", "pending"): IMAGES - self._done,
        }


def test_a_clusters_nodes_offer_the_measures_of_a_run(
    cluster: ClusterOfNodes, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MEASURE_SECONDS", 0.0)
    out = str(tmp_path / "out")
    settings = InversionSettings(
        model=str(tiny_model), align=False, metrics=(), reconstructions="none", dtype="fp32"
    )
    request = Request(
        str(make_images(tmp_path / "images", IMAGES)),
        out,
        settings,
        workers=Workers(address=cluster.address),
    )
    published = Published(cluster, out)
    invert_images(request, published)
    assert set(published.stages) == {"alignment", "inversion"}
    assert published.is_found, f"after the units before, the nodes offered {published.offered}"
