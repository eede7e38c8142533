"""What Ray says goes to a file of the output, readable and without credentials."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from restyle.pipeline.execution.ray.environment import import_ray
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import open_storage

import_ray()

import ray._private.worker  # noqa: E402

from restyle.pipeline.execution.ray.messages import Messages  # noqa: E402


class Heard(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)


def from_raylet(line: str) -> None:
    """As Ray's thread does that listens for errors of the cluster."""
    data: dict[str, Any] = {"lines": [line], "pid": "raylet", "is_err": False}
    ray._private.worker.print_to_stdstream(data, ignore_prefix=False)


def from_core(line: str) -> None:
    """As Ray's core worker does for each try of a task."""
    logging.getLogger("ray._private.worker").error(line)


MESSAGES = {
    "a death": (from_raylet, "A worker died or was killed: SIGKILL", "A worker died or was killed"),
    "a retry": (
        from_core,
        "Task f failed. There are infinite retries",
        "There are infinite retries",
    ),
    "colours": (
        from_raylet,
        "\x1b[33m(autoscaler)\x1b[0m Tip: \x1b[2Jx",
        r"(autoscaler) Tip: \x1b[2Jx",
    ),
    "an address": (
        from_core,
        "cannot read s3://KEY:hush@bucket/a?X-Amz-Signature=hush: 403",
        "cannot read s3://bucket/a",
    ),
    "a variable": (
        from_raylet,
        "env {'AWS_SECRET_ACCESS_KEY': 'hush'}",
        "AWS_SECRET_ACCESS_KEY=...",
    ),
    "an option": (from_core, "started with --token=hush --port=1", "--token=... --port=1"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_it_is_in_the_file_and_not_on_the_screen(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    say, line, kept = MESSAGES[name]
    messages, heard = Messages(), Heard()
    with messages.taken(heard):
        say(line)
        messages.storage = open_storage(str(tmp_path))
        messages.write()
        # While the run goes on, too.
        (written,) = (tmp_path / "_ledger" / "ray.log").read_text().splitlines()
        say("again")
    assert kept in written
    assert "hush" not in written
    assert "\x1b" not in written
    assert heard.lines == [f"2 messages of Ray are in {tmp_path}/_ledger/ray.log"]
    assert (tmp_path / "_ledger" / "ray.log").read_text().splitlines()[1].endswith("again")
    assert capfd.readouterr() == ("", "")


def test_a_quiet_run_leaves_no_file_and_ray_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    messages, heard = Messages(), Heard()
    messages.storage = open_storage(str(tmp_path))
    before = ray._private.worker.print_to_stdstream, list(logging.getLogger("ray").handlers)
    with messages.taken(heard):
        pass
    assert (ray._private.worker.print_to_stdstream, logging.getLogger("ray").handlers) == before
    assert heard.lines == []
    assert list(tmp_path.iterdir()) == []
    from_raylet("another's run")
    assert "another's run" in capfd.readouterr().out


def test_what_is_kept_has_bounds(tmp_path: Path) -> None:
    messages = Messages()
    messages.storage = open_storage(str(tmp_path))
    for number in range(3000):
        messages.add(f"{number} " + "x" * 5000)
    messages.write()
    lines = (tmp_path / "_ledger" / "ray.log").read_text().splitlines()
    assert len(lines) == 2000
    assert max(map(len, lines)) < 2100
    assert " 2999 " in lines[-1]
