"""The command line and the specification say the same things."""

from __future__ import annotations

import inspect
import os
import shlex
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from restyle.jobs.commands.invert.invert import invert
from restyle.jobs.spec.file import read_spec
from restyle.jobs.spec.job_spec import JobSpec
from restyle.jobs.spec.options import NAMES, command_line, spec_from, takes
from tests.jobs.spec.test_file import FULL, MINIMAL


def parsed(words: list[str]) -> JobSpec:
    """The specification that ``restyle invert`` makes of a command line."""
    seen: list[JobSpec] = []
    app = typer.Typer()

    def record(context: typer.Context, **options: object) -> None:
        seen.append(spec_from(context, None))

    # The very parameters of the command, with another body.
    record.__signature__ = inspect.signature(invert, eval_str=True)  # type: ignore[attr-defined]
    record.__annotations__ = typing.get_type_hints(invert, include_extras=True)
    app.command()(record)
    result = CliRunner().invoke(app, words)
    assert result.exception is None, result.output
    return seen[0]


@pytest.mark.parametrize("text", [FULL, MINIMAL, FULL.replace("align = false", "align = true")])
def test_a_specification_and_its_command_line_are_the_same_job(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    spec = read_spec(path, {}, NAMES)
    program, command, *words = shlex.split(command_line(spec))
    assert (program, command) == ("restyle", "invert")
    assert parsed(words) == spec


@pytest.mark.parametrize("source", ["-x.jpg", "two words; rm -rf", "--out", "it's $HOME"])
def test_awkward_names_survive(source: str) -> None:
    spec = read_spec(None, {("input", "source"): source, ("output", "out"): "-out"}, NAMES)
    assert parsed(shlex.split(command_line(spec))[2:]) == spec


def test_none_of_the_metrics_and_another_address() -> None:
    given = {("input", "source"): "x", ("output", "out"): "y", ("inversion", "metrics"): "none"}
    line = command_line(read_spec(None, given, NAMES), address="auto")
    assert line == "restyle invert --out y --metrics none --address auto x"


def parameters(command: Callable[..., None]) -> dict[str, Any]:
    return {name: each.annotation for name, each in inspect.signature(command).parameters.items()}


def test_every_field_is_an_option_of_invert() -> None:
    expected = {
        {"source": "source", "--input-format": "input_format", "--model": "model"}.get(
            name, name.removeprefix("--").replace("-", "_") if name != "INPUT" else "source"
        )
        for name in NAMES.values()
    }
    # What a command says or does once is no field of a job.
    assert set(parameters(invert)) == expected | {"context", "spec", "plan_only", "prices"}
    fields = sum(len(kind.model_fields) for kind in JobSpec.SECTIONS.values())
    assert len(expected) == fields > 20


def test_a_new_field_reaches_commands_without_another_line() -> None:
    """In a process of its own, where a section has a field more before any command is made."""
    code = """
import sys
from pydantic import Field
from restyle.jobs.spec import job_spec, sections

class Wider(sections.WorkersSection):
    patience_s: int | None = Field(None, ge=1, description="How long a toy waits.")

    def to_workers(self):
        print("asked", self.patience_s)
        raise SystemExit(0)

sections.WorkersSection = Wider
job_spec.JobSpec.SECTIONS["workers"] = Wider
job_spec.JobSpec.model_fields["workers"].annotation = Wider
job_spec.JobSpec.model_fields["workers"].default = Wider()
job_spec.JobSpec.model_rebuild(force=True)
from restyle.jobs.cli import main
main()
"""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )

    for command in ("invert", "toonify", "retry-rejects", "edit"):
        text = run(command, "--help").stdout
        assert "--patience-s" in text
        assert "How long a toy waits." in text
    assert run("invert", "x", "--out", "y", "--patience-s", "7").stdout == "asked 7\n"
    assert "--patience-s" not in run("plan", "--help").stdout
    refused = run("invert", "x", "--out", "y", "--patience-s", "0")
    assert refused.returncode == 2
    assert "--patience-s" in refused.stderr


def test_a_command_takes_what_it_names() -> None:
    @takes("output.out", "workers", without=["workers.device", "workers.address"])
    def command(context: typer.Context, name: str, batch_size: int = 3) -> None:
        """Do."""

    found = parameters(command)
    # Its own parameter wins, and what must be given comes first.
    assert list(found)[:4] == ["context", "name", "out", "batch_size"]
    assert found["batch_size"] is int
    assert "executor" in found
    assert not {"device", "address", "source", "spec", "save_steps"} & set(found)
    assert command.__doc__ == "Do."


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("source", str | None),
        ("steps", int | None),
        ("tolerance", float | None),
        ("align", bool | None),
        ("metrics", str | None),
        ("align_actors", str | None),
        ("faces", Literal["largest", "all"] | None),
    ],
)
def test_an_option_has_the_type_of_its_field(name: str, kind: object) -> None:
    assert typing.get_args(parameters(invert)[name])[0] == kind
