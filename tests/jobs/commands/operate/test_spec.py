"""``restyle spec`` as a user runs it, and the specifications that ship as examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from restyle.jobs.spec.file import example, read_spec
from restyle.jobs.spec.options import NAMES
from tests.command import ROOT
from tests.warm_command import restyle

# Prices of machines are no job; tests/pipeline/estimation/test_prices.py reads them.
EXAMPLES = sorted(set((ROOT / "examples").glob("*.toml")) - {ROOT / "examples" / "prices.toml"})


def test_init_then_check(tmp_path: Path) -> None:
    file = tmp_path / "my job.toml"
    made = restyle("spec", "init", file)
    assert (made.returncode, made.stderr) == (0, "")
    checked = restyle("spec", "check", file)
    assert checked.returncode == 0
    words = ["restyle", "invert", "--out", f"{tmp_path}/inverted", f"{tmp_path}/photos"]
    assert shlex.split(checked.stdout) == words
    again = restyle("spec", "init", file)
    assert again.returncode == 2
    assert "is not overwritten" in again.stderr
    assert file.read_text(encoding="utf-8") == example()


def test_a_wrong_one_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text("[input]\nsource = 3\n", encoding="utf-8")
    checked = restyle("spec", "check", file)
    assert checked.returncode == 2
    (line,) = checked.stderr.splitlines()
    assert "input.source input should be a valid string" in line
    assert "output is missing" in line


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    read_spec(path, {}, NAMES)


def test_the_full_example_is_what_init_writes() -> None:
    assert (ROOT / "examples" / "job.toml").read_text(encoding="utf-8") == example()


def test_the_operations_page_and_the_schedules_name_options_that_exist() -> None:
    cron = yaml.safe_load((ROOT / "examples" / "cronjob.yaml").read_text(encoding="utf-8"))
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    text = " ".join(container["args"]) + "\n"
    for name in ("docs/operations.md", "examples/crontab", "cluster.yaml"):
        text += (ROOT / name).read_text(encoding="utf-8")
    used = re.findall(
        r"restyle (invert|submit|runs|verify|compact|retry-rejects)\b([^`\n>]*)", text
    )
    asked = {(command, flag) for command, rest in used for flag in re.findall(r"--[a-z-]+", rest)}
    assert {("invert", "--spec"), ("submit", "--address"), ("invert", "--limit")} <= asked
    helps = {command: restyle(command, "--help").stdout for command, _ in used}
    assert [(command, flag) for command, flag in asked if flag not in helps[command]] == []
    assert not [command for command, shown in helps.items() if "Usage" not in shown]
