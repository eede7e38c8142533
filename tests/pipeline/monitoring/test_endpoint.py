"""What is offered to Prometheus, while a run lasts and not longer."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from restyle.core.errors import RejectReason, SpecError
from restyle.pipeline.accounting.machine import WorkerUse
from restyle.pipeline.accounting.run_record import Counts
from restyle.pipeline.accounting.summary import Tally
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.endpoint import endpoint
from restyle.pipeline.monitoring.measures import MEASURES, RunFigures
from restyle.pipeline.monitoring.meter import Meter
from tests.command import start
from tests.faults.running_job import make_images

OUT = 's3://bucket/a "b" \\ ünd\nc'


def figures(**fields: object) -> RunFigures:
    whole = {
        "out": OUT,
        "info": {"run": "r", "operation": "inversion", "model": "m", "version": "1"},
        "this_run": Tally(2, 12, 9, {"no_face": 3}, {"align": 1.5, "invert": 2.0}, 4),
        "counts": Counts(
            units=5, pending_units=1, images=30, pending_images=7, faces=20, rejected=3,
            rejects={"no_face": 3},
        ),
        "used": (WorkerUse("w", "cuda:0 (GPU 1)", 9, 0.75, 2**30, 3, 12),),
        "started": 100.0,
        "advanced": 200.0,
    }  # fmt: skip
    return RunFigures(**{**whole, **fields})  # type: ignore[arg-type]


def scraped(address: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels, ``out`` apart."""
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 (loopback)
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            if sample.name.startswith("restyle_"):
                assert labels.pop("out") == OUT
                assert family.type == MEASURES[sample.name].kind
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def test_every_measure_is_offered_as_it_is_now() -> None:
    meter = Meter(Listener())
    with endpoint(meter.samples, "127.0.0.1", 0) as address:
        assert not any(name.startswith("restyle_") for name, _ in scraped(address))
        meter.measured(figures())
        meter.occupied("alignment", 2, 3)
        meter.occupied("inversion", 1, None)
        found = scraped(address)
        assert {name for name, _ in found if name.startswith("restyle_")} == set(MEASURES)
        worker = {"worker": "w", "device": "cuda:0 (GPU 1)"}
        for name, labels, value in [
            ("restyle_inputs_total", {}, 12),
            ("restyle_faces_total", {}, 9),
            ("restyle_units_total", {}, 2),
            ("restyle_retries_total", {}, 4),
            ("restyle_rejects_total", {"reason": "no_face"}, 3),
            # So that the first reject is seen as one more.
            ("restyle_rejects_total", {"reason": "truncated"}, 0),
            ("restyle_stage_seconds_total", {"stage": "align"}, 1.5),
            ("restyle_output_inputs", {"state": "done"}, 23),
            ("restyle_output_inputs", {"state": "pending"}, 7),
            ("restyle_output_units", {"state": "done"}, 4),
            ("restyle_output_units", {"state": "pending"}, 1),
            ("restyle_output_faces", {}, 20),
            ("restyle_output_rejects", {"reason": "no_face"}, 3),
            ("restyle_worker_faces_total", worker, 9),
            ("restyle_worker_batches_total", worker, 3),
            ("restyle_worker_places_total", worker, 12),
            ("restyle_worker_busy_ratio", worker, 0.75),
            ("restyle_worker_memory_peak_bytes", worker, 2**30),
            ("restyle_stage_units", {"stage": "alignment", "state": "waiting"}, 3),
            ("restyle_stage_units", {"stage": "inversion", "state": "working"}, 1),
            ("restyle_run_advanced_seconds", {}, 200),
        ]:
            assert found[name, frozenset(labels.items())] == value, name
        assert ("restyle_stage_units", frozenset({"stage": "inversion", "state": "waiting"}.items())) not in found  # noqa: E501  # fmt: skip
        reasons = {dict(labels)["reason"] for name, labels in found if "rejects_total" in name}
        assert reasons == set(RejectReason)
        meter.measured(figures(this_run=Tally(3, 19, 15)))
        assert scraped(address)["restyle_inputs_total", frozenset()] == 19
    with pytest.raises(urllib.error.URLError):
        scraped(address)


def test_an_output_that_is_not_planned_yet_has_no_counts() -> None:
    names = {sample.name for sample in figures(counts=None).samples()}
    assert not any("output" in name for name in names)


def test_counts_after_units_are_those_of_the_whole(inverted: Path) -> None:
    before = Counts(
        units=5, pending_units=4, images=30, pending_images=20, faces=9, rejected=1,
        rejects={"no_face": 1},
    )  # fmt: skip
    after = before.after(Tally(3, 12, 8, {"truncated": 2, "no_face": 1}))
    assert after == Counts(
        units=5, pending_units=1, images=30, pending_images=8, faces=17, rejected=4,
        rejects={"truncated": 2, "no_face": 2},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "in use"),
        ("192.0.2.1", "assign"),
        ("no.such.invalid", ""),
        ("no..host", "no name of a host"),
        ("a" * 64, "no name of a host"),
        (".", "no name of a host"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(host: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SpecError) as refused, endpoint(list, host, port):
            pass
    line = str(refused.value)
    assert line.startswith(f"--metrics-port {port}: {host} cannot be listened on there (")
    assert said in line
    assert "\n" not in line


def test_a_client_that_never_lets_go_keeps_no_run() -> None:
    code = (
        "from restyle.pipeline.monitoring.endpoint import endpoint\n"
        "with endpoint(list, '127.0.0.1', 0) as address:\n"
        "    print(address, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        port = int(re.findall(r":(\d+)/", process.stdout.readline())[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            # Half a request, whose other half never comes.
            client.sendall(b"GET /metrics HT")
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(timeout=60) == 0


def test_the_command_offers_them_on_loopback(tmp_path: Path, tiny_model: Path) -> None:
    make_images(tmp_path / "images", 8)
    process = start(
        *("invert", tmp_path / "images", "--out", tmp_path / "out", "--model", tiny_model),
        *("--no-align", "--metrics=none", "--steps", 50, "--metrics-port", 0, "--device", "cpu"),
    )
    try:
        assert process.stderr
        said = next(line for line in process.stderr if "metrics at" in line)
        address = re.search(r"http://127\.0\.0\.1:\d+/metrics", said)
        assert address
        found: dict[str, str] = {}
        while "restyle_output_inputs" not in found:
            with urllib.request.urlopen(address[0], timeout=30) as answer:  # noqa: S310
                families = text_string_to_metric_families(answer.read().decode())
                found = {family.name: family.type for family in families}
            time.sleep(0.02)
        _, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, error
    assert not (tmp_path / "out" / "_ledger" / "failures.txt").exists()
