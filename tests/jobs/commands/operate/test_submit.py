"""``restyle submit`` against a job server in this process: one job per output, followed safely."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import typer

from restyle.core.errors import FatalError, SpecError
from restyle.jobs.commands.operate import submit as module
from restyle.jobs.commands.operate.submit import submission_prefix, submit
from restyle.pipeline.listener import Interrupted
from tests.jobs.fake_job_server import FakeJobServer, job_server

__all__ = ["job_server"]

OUT = "s3://latents/2026"
PREFIX = submission_prefix(OUT)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_SHORTEST", 0.0)
    monkeypatch.setattr(module, "_LONGEST", 0.0)
    path = tmp_path / "job.toml"
    path.write_text(
        f'[input]\nsource = "s3://photos"\n[output]\nout = "{OUT}"\n'
        '[workers]\naddress = "elsewhere:6379"\n',
        encoding="utf-8",
    )
    return path


def test_the_command_is_the_specification_on_that_cluster(
    job_server: FakeJobServer, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(spec, job_server.address, follow=False)
    (received,) = job_server.received
    assert received["entrypoint"] == f"restyle invert --out {OUT} --address auto s3://photos"
    assert received["submission_id"] == f"{PREFIX}1"
    assert "--attach" in capsys.readouterr().err


def test_the_dashboard_shows_no_address_of_a_webhook(job_server: FakeJobServer, spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    for scheme in ("https", "http", "HTTPS"):
        section = f'[monitoring]\nnotify = "{scheme}://hooks.example/geheim"\n'
        spec.write_text(text + section, "utf-8")
        with pytest.raises(SpecError, match="env:WEBHOOK") as refused:
            submit(spec, job_server.address, follow=False)
        assert "geheim" not in str(refused.value)
    assert job_server.received == []
    spec.write_text(text + '[monitoring]\nnotify = "env:WEBHOOK"\n', "utf-8")
    submit(spec, job_server.address, follow=False)
    (received,) = job_server.received
    assert "--notify env:WEBHOOK" in received["entrypoint"]


def test_a_second_submission_is_refused_while_the_first_runs(
    job_server: FakeJobServer, spec: Path
) -> None:
    submit(spec, job_server.address, follow=False)
    with pytest.raises(SpecError, match=f"{PREFIX}1 is running since 2026-01-01"):
        submit(spec, job_server.address, follow=False)
    job_server.change(f"{PREFIX}1", status="FAILED")
    submit(spec, job_server.address, follow=False)
    assert list(job_server.jobs) == [f"{PREFIX}1", f"{PREFIX}2"]


def test_of_two_submissions_at_once_one_is_refused(job_server: FakeJobServer, spec: Path) -> None:
    def overtake(method: str, path: str) -> None:
        # Another has looked at the same time and comes first.
        if method == "POST":
            job = {"type": "SUBMISSION", "submission_id": f"{PREFIX}1", "entrypoint": "x"}
            job_server.jobs.setdefault(f"{PREFIX}1", {**job, "status": "PENDING", "start_time": 1})

    job_server.before = overtake
    with pytest.raises(SpecError, match=f"{PREFIX}1 is pending"):
        submit(spec, job_server.address, follow=False)
    assert list(job_server.jobs) == [f"{PREFIX}1"]


def test_one_output_is_one_however_it_is_written(tmp_path: Path) -> None:
    assert submission_prefix("s3://b/out/") == submission_prefix("s3://b/out")
    assert submission_prefix(f"file://{tmp_path}/x") == submission_prefix(f"{tmp_path}/y/../x")
    assert submission_prefix("s3://b/out") != submission_prefix("s3://b/out2")


def test_the_log_is_written_once_and_to_its_end(
    job_server: FakeJobServer, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = 0

    def grow(method: str, path: str) -> None:
        nonlocal looks
        if path.endswith("/logs"):
            looks += 1
            job_server.logs[f"{PREFIX}1"] = "".join(f"line {each}\n" for each in range(looks))
            if looks == 3:
                job_server.failures = [(503, b"busy")]
            if looks == 5:
                job_server.change(f"{PREFIX}1", status="SUCCEEDED")

    job_server.before = grow
    submit(spec, job_server.address, follow=True)
    out, error = capsys.readouterr()
    assert out == "".join(f"line {each}\n" for each in range(6))
    assert "says 503: busy; trying again" in error
    assert error.endswith(f"{PREFIX}1: succeeded\n")


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_following_tells_of_a_failure(job_server: FakeJobServer, spec: Path, status: str) -> None:
    submit(spec, job_server.address, follow=False)
    job_server.change(f"{PREFIX}1", status=status, message="exit code 2")
    with pytest.raises(FatalError, match=f"{PREFIX}1 {status.lower()}: exit code 2"):
        submit(spec, job_server.address, attach=True)


def test_ctrl_c_only_stops_following(
    job_server: FakeJobServer, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    with pytest.raises(Interrupted, match=r"goes on\. Follow it with: .* --attach"):
        submit(spec, job_server.address, follow=True)
    assert job_server.jobs[f"{PREFIX}1"]["status"] == "RUNNING"


def test_a_server_that_stays_away_does_not_end_the_job(
    job_server: FakeJobServer, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(spec, job_server.address, follow=False)
    monkeypatch.setattr(module, "_PATIENCE", -1.0)
    # The listing is answered, and nothing after it.
    job_server.before = lambda method, path: (
        job_server.failures.append((503, b"gone")) if path != "/api/jobs/" else None
    )
    with pytest.raises(FatalError, match=r"may well go on, follow it with: .* --attach"):
        submit(spec, job_server.address, attach=True)


def test_status_and_stop(
    job_server: FakeJobServer, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SpecError, match=f"knows of no submission that writes to {OUT}"):
        submit(spec, job_server.address, status=True)
    submit(spec, job_server.address, follow=False)
    job_server.logs[f"{PREFIX}1"] = "first\n12/40 inputs\n\n"
    submit(spec, job_server.address, status=True)
    assert capsys.readouterr().out.splitlines() == [
        f"{PREFIX}1: running, since 2026-01-01T00:00:00+00:00",
        "last line: 12/40 inputs",
    ]
    submit(spec, job_server.address, status=True, as_json=True)
    running = json.loads(capsys.readouterr().out)
    assert (running["status"], running["last_line"]) == ("running", "12/40 inputs")
    with pytest.raises(SpecError, match="--json goes with --status"):
        submit(spec, job_server.address, as_json=True)
    submit(spec, job_server.address, stop=True)
    assert capsys.readouterr().out == f"{PREFIX}1: stopped\n"
    for status, code in (("STOPPED", 1), ("FAILED", 1), ("SUCCEEDED", 0)):
        job_server.change(f"{PREFIX}1", status=status)
        for as_json in (False, True):
            with pytest.raises(typer.Exit) if code else contextlib.nullcontext() as ended:
                submit(spec, job_server.address, status=True, as_json=as_json)
            assert ended is None or ended.value.exit_code == code
        assert status.lower() in capsys.readouterr().out
    with pytest.raises(SpecError, match="exclude one another"):
        submit(spec, job_server.address, status=True, stop=True)
