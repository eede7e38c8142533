"""A real Prometheus scrapes real runs: it counts as ``run.json`` does and fills the dashboard."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener, Progress
from restyle.pipeline.monitoring.measures import MEASURES
from restyle.pipeline.monitoring.monitor import Monitoring
from tests.prometheus import Prometheus, free_port, program, prometheus

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "ops" / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((ROOT / "ops" / "grafana" / "restyle.json").read_text(encoding="utf-8"))

PANELS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
RULES = [
    pytest.param(rule["expr"], id=rule["alert"])
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]

# Prometheus adds these two to what it scrapes.
_COMMON = {"out", "job", "instance"}


@pytest.mark.parametrize("expression", [*PANELS, *RULES])
def test_expressions_ask_for_what_a_run_exports(expression: str) -> None:
    assert unknown(expression) == []
    assert re.findall(r"restyle_\w+", expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sum(restyle_images_total)", ["restyle_images_total"]),
        ("restyle_faces_total{why='x'}", ["why of restyle_faces_total"]),
        ("sum by (reason) (restyle_faces_total)", ["reason"]),
        ('restyle_rejects_total{out=~"a", reason="x"}', []),
    ],
)
def test_what_no_run_exports_is_found(expression: str, expected: list[str]) -> None:
    assert unknown(expression) == expected


def unknown(expression: str) -> list[str]:
    """Names and labels in an expression that no run exports."""
    selectors = re.findall(r"(restyle_\w+)(?:\{([^}]*)\})?", expression)
    known = {name: {*measure.labels, *_COMMON} for name, measure in MEASURES.items()}
    found = [name for name, _ in selectors if name not in known]
    found += [
        f"{label} of {name}"
        for name, inside in selectors
        for label in re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*['\"]", inside)
        if name in known and label not in known[name]
    ]
    every = set().union(*(known.get(name, set()) for name, _ in selectors))
    groups = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    words = [word.strip() for group in groups for word in group.split(",")]
    return found + [word for word in words if word not in every]


def test_every_measure_is_on_the_dashboard_or_explains_itself() -> None:
    shown = set(re.findall(r"restyle_\w+", json.dumps(DASHBOARD["panels"])))
    assert set(MEASURES) - shown == {"restyle_units_total", "restyle_run_started_seconds"} | {
        # By reason the panel has those of the whole output.
        "restyle_rejects_total"
    }


def test_the_dashboard_is_whole() -> None:
    """What Grafana cannot lay out: an id or a place twice, a panel without a target."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
    assert all(panel["targets"] and panel["title"] and panel["description"] for panel in panels)
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used - names == {"__rate_interval"}


def test_promtool_finds_the_rules_sound() -> None:
    for command in (
        ["check", "rules", ALERTS],
        ["check", "config", ALERTS.with_name("prometheus.yml")],
    ):
        checked = subprocess.run(
            [program("promtool"), *command], cwd=ALERTS.parent, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    promtool = program("promtool")
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text(encoding="utf-8"))
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    cases = yaml.safe_load((tmp_path / "alerts_test.yml").read_text(encoding="utf-8"))
    tried = {each["alertname"] for test in cases["tests"] for each in test["alert_rule_test"]}
    assert tried == {rule.id for rule in RULES}
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path, photos: Path) -> Path:
    """Three shards, each a unit: five faces, and two inputs that are rejected."""
    folder = tmp_path / "shards"
    folder.mkdir()
    names = ["smile.jpg", "terrace.jpg", "blue hat.jpg"]
    first, second, third = ((photos / name).read_bytes() for name in names)
    shard(folder / "a.tar", {"a.jpg": first, "b.jpg": second, "broken.jpg": first[:3000]})
    shard(folder / "b.tar", {"c.jpg": third, "d.jpg": first})
    shard(folder / "c.tar", {"e.jpg": second, "empty.jpg": b""})
    return folder


class Watched(Listener):
    """Waits after each commit until Prometheus has seen it.

    Args:
        server: that scrapes the run.
        at_end: called when all is committed, while the endpoint is still there.
    """

    def __init__(self, server: Prometheus, at_end: Callable[[], None] = lambda: None) -> None:
        self._server = server
        self._at_end = at_end

    def advanced(self, progress: Progress) -> None:
        self._server.wait_for(f"restyle_inputs_total == {progress.done}")
        if progress.done == progress.total:
            self._at_end()


def test_a_run_and_one_that_continues_it(shards: Path, tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    request = Request(
        str(shards),
        str(out),
        InversionSettings(model="faces64", steps=2, metrics=("l2",), dtype="fp32"),
        device="cpu",
        workers=Workers(executor="local"),
        monitoring=Monitoring(metrics_port=port),
    )
    with prometheus(tmp_path / "prometheus", port) as server:
        # The first shard alone.
        invert_images(replace(request, limit=3), Watched(server))
        begun = record(out)
        assert begun["this_run"]["units"] == begun["counts"]["units"] == 1
        compare(server, begun)
        ratios: dict[str, int] = {}

        def look() -> None:
            for each in PANELS:
                (expression,) = each.values
                shown = expression.replace("$__rate_interval", "1m").replace("$out", ".*")
                ratios[str(each.id)] = len(server.wait_for(shown))

        invert_images(request, Watched(server, look))
        assert len(ratios) == len(PANELS)
        ended = record(out)
        assert ended["counts"] == {
            "units": 3,
            "pending_units": 0,
            "images": 7,
            "pending_images": 0,
            "faces": 5,
            "rejected": 2,
            "rejects": {"empty": 1, "truncated": 1},
        }
        assert ended["this_run"]["units"] == 2
        compare(server, ended)
        # A counter that begins again is no loss: what both runs did is what there is.
        both = begun["this_run"]["images"] + ended["this_run"]["images"]
        assert both == ended["counts"]["images"]


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_bytes())
    return found


def compare(server: Prometheus, run: dict[str, Any]) -> None:
    """Compare what Prometheus scraped last of a run with its record."""
    out = run["asked"]["out"]

    def last(name: str, *labels: str) -> Any:
        found = {
            tuple(series[label] for label in labels): value
            for series, value in server.values(f'last_over_time({name}{{out="{out}"}}[5m])')
        }
        return found if labels else found[()]

    (info,) = (
        labels
        for labels, _ in server.values("topk(1, timestamp(last_over_time(restyle_run_info[5m])))")
    )
    done, counts = run["this_run"], run["counts"]
    assert last("restyle_inputs_total") == done["images"]
    assert last("restyle_faces_total") == done["faces"]
    assert last("restyle_units_total") == done["units"]
    assert last("restyle_retries_total") == done["retries"] == 0
    rejects = last("restyle_rejects_total", "reason")
    assert {reason: n for (reason,), n in rejects.items() if n} == done["rejects"]
    assert {stage: n for (stage,), n in last("restyle_stage_seconds_total", "stage").items()} == (
        done["seconds"]
    )
    assert last("restyle_output_faces") == counts["faces"]
    pending, pending_units = counts["pending_images"], counts["pending_units"]
    assert last("restyle_output_inputs", "state") == {
        ("done",): counts["images"] - pending,
        ("pending",): pending,
    }
    assert last("restyle_output_units", "state") == {
        ("done",): counts["units"] - pending_units,
        ("pending",): pending_units,
    }
    output_rejects = last("restyle_output_rejects", "reason")
    assert {reason: n for (reason,), n in output_rejects.items() if n} == counts["rejects"]
    (used,) = run["used"]
    worker = (used["worker"], used["device"])
    for name, field in (("faces_total", "images"), ("batches_total", "batches")):
        assert last(f"restyle_worker_{name}", "worker", "device")[worker] == used[field]
    assert last("restyle_worker_places_total", "worker", "device")[worker] == used["places"]
    memory = last("restyle_worker_memory_peak_bytes", "worker", "device")
    assert memory[worker] == used["memory"]
    assert info["model"] == "faces64"
