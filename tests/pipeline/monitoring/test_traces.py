"""Spans of a real run, as a receiver of OTLP gets them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from restyle.pipeline.monitoring.traces import are_wanted, traced
from tests.faults.running_job import make_images
from tests.warm_command import restyle

OPTIONS = ("--no-align", "--metrics=none", "--reconstructions=none", "--device=cpu", "--steps=2")


class Receiver:
    """An OTLP receiver on loopback.

    Attributes:
        address: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        spans: all that it got, with the attributes of their resource.
        status: that it answers with.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                data = self.rfile.read(int(self.headers["Content-Length"]))
                for each in ExportTraceServiceRequest.FromString(data).resource_spans:
                    about = attributes(each.resource.attributes)
                    for scope in each.scope_spans:
                        receiver.spans += [(about, span) for span in scope.spans]
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(found: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in found}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def entries(out: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_bytes()) for path in out.glob("_ledger/unit-*.json")]
    return {each["unit"]: each for each in found}


def test_a_run_is_a_span_with_one_for_each_unit(
    receiver: Receiver, tmp_path: Path, tiny_model: Path
) -> None:
    make_images(tmp_path / "images", 40)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    done = restyle(
        *("invert", tmp_path / "images", "--out", out, "--model", tiny_model, *OPTIONS),
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address,
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        },
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    ((about, run),) = [each for each in receiver.spans if each[1].name == "restyle run"]
    assert about["service.name"] == "restyle"
    assert about["deployment.environment"] == "test"
    assert attributes(run.attributes) == {"restyle.out": str(out)}
    units = [span for _, span in receiver.spans if span.name == "unit"]
    committed = entries(out)
    assert len(units) == len(committed) > 1
    for span in units:
        assert (span.trace_id, span.parent_span_id) == (run.trace_id, run.span_id)
        told = attributes(span.attributes)
        entry = committed.pop(told.pop("restyle.unit"))
        expected = {
            "restyle.inputs": entry["images"],
            "restyle.faces": entry["faces"],
            "restyle.rejected": sum(entry["rejects"].values()),
        }
        expected |= {f"restyle.rejects.{name}": n for name, n in entry["rejects"].items()}
        expected |= {f"restyle.seconds.{name}": n for name, n in entry["seconds"].items()}
        assert told == expected
        stages = sum(entry["seconds"][name] for name in ("align", "invert", "wait", "encode"))
        seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert seconds == pytest.approx(stages, abs=1e-3)
    assert committed == {}


def test_a_receiver_that_is_not_there_is_a_line_and_no_more(
    tmp_path: Path, tiny_model: Path
) -> None:
    make_images(tmp_path / "images", 4)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://u:geheim@127.0.0.1:{unused.getsockname()[1]}"
        done = restyle(
            *("invert", tmp_path / "images", "--out", tmp_path / "out", "--model", tiny_model),
            *OPTIONS,
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
        )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "traces" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: traces were not all sent: ")
    assert "geheim" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_environment_decides(
    environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert are_wanted() is expected


RUN = """
import sys
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.monitor import Monitoring, monitored
class Told(Listener):
    def noted(self, line):
        print(line)
for name in sys.argv[1:]:
    sys.modules[name] = None
with monitored(Monitoring(), Told(), "out"):
    pass
print(sorted(name for name, found in sys.modules.items() if found and "opentelemetry" in name))
"""


def run(monkeypatch: pytest.MonkeyPatch, *missing: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", RUN, *missing], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_costs_nothing_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert run(monkeypatch) == ["[]"]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    said, _ = run(monkeypatch, "opentelemetry.exporter.otlp.proto.http.trace_exporter")
    assert said.startswith("warning: the environment asks for traces, which need the extra otel")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x"),
    ],
)
def test_a_variable_that_opentelemetry_refuses_is_a_line_and_no_more(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    said: list[str] = []
    with traced("out", "1", said.append) as traces:
        assert traces is None
    (line,) = said
    assert line.startswith("warning: traces are not sent, because OpenTelemetry refuses")
    assert "\n" not in line
