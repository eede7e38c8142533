"""The command line and the specification say the same things."""

from __future__ import annotations

import inspect
import shlex
import typing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from restyle.jobs.commands.invert.invert import invert
from restyle.jobs.spec.file import read_spec
from restyle.jobs.spec.job_spec import JobSpec
from restyle.jobs.spec.options import NAMES, command_line, spec_from
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
