"""The help of every command, as a terminal of 80 columns shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import typer.core

from restyle.jobs.cli import app
from tests.warm_command import restyle

SECTIONS = ["Invert photographs", "Look at results", "Edit faces", "Train models", "Operate"]
GROUPS = [[], ["spec"], ["directions"], ["train"], ["kernels"]]


def commands(words: tuple[str, ...] = (), node: Any = None) -> Iterator[tuple[str, ...]]:
    node = typer.main.get_command(app) if node is None else node
    yield words
    for name, each in getattr(node, "commands", {}).items():
        yield from commands((*words, name), each)


def help_of(words: tuple[str, ...]) -> tuple[str, Any]:
    node: Any = typer.main.get_command(app)
    context = node.make_context("restyle", ["x"], resilient_parsing=True)
    for word in words:
        node = node.commands[word]
        context = node.context_class(node, info_name=word, parent=context, **node.context_settings)
    context.terminal_width = 80
    return node.get_help(context), node


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_is_whole_and_without_noise(words: tuple[str, ...]) -> None:
    text, node = help_of(words)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^  -h, --help +Show this", text, re.MULTILINE)
    for noise in ("<bool>", "<str>", "<int>", "<float>", "list[", "{", "Default: False", "…"):
        assert noise not in text
    for option in node.params:
        if isinstance(option, typer.core.TyperOption):
            assert all(name in text for name in (*option.opts, *option.secondary_opts))
            # Where a result goes is said in one way; the former one is still understood. The
            # formats of export are no places.
            is_format = words == ("export",) and option.name == "to" and "hf|lance" in text
            assert "--to" not in option.opts or "--out" in option.opts or is_format


def test_commands_stand_with_what_people_do() -> None:
    text = restyle().stdout
    headings = re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE)
    assert headings == ["Options", *SECTIONS]
    listed = re.findall(r"^  ([a-z][\w-]*)  ", text, re.MULTILINE)
    assert sorted(listed) == sorted(words[0] for words in commands() if len(words) == 1)
    assert "restyle invert PHOTOS --out OUT" in text


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_a_group_alone_prints_its_help(words: list[str]) -> None:
    alone, asked = restyle(*words), restyle(*words, "-h")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == asked.stdout
    assert "Usage: " in alone.stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["edit"], "edit --help"), (["spec", "frob"], "spec --help"), (["--x"], " --help")],
)
def test_a_wrong_command_line_says_which_help_to_read(words: list[str], hint: str) -> None:
    wrong = restyle(*words)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    (line,) = wrong.stderr.splitlines()
    assert line.endswith(hint)


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        (["edit", "OUT", "--pictures", "--paste-back"], "--pictures", "--paste-back"),
        (["invert", "IN", "--out", "--faces=all"], "--out", "--faces=all"),
        (["forget", "OUT", "--source", "a", "--source", "--yes"], "--source", "--yes"),
    ],
)
def test_no_option_is_taken_for_the_value_of_another(
    words: list[str], option: str, value: str
) -> None:
    wrong = restyle(*words)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    (line,) = wrong.stderr.splitlines()
    assert line.startswith(f"error: {option} needs a value, and {value} is another option")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["edit", "OUT", "--direction", "smile", "--out", ""], "--out"),
        (["invert", "IN", "--out="], "--out"),
        (["status", ""], "an argument"),
        (["status", "--", ""], "an argument"),
    ],
)
def test_an_empty_word_is_not_the_current_directory(words: list[str], what: str) -> None:
    wrong = restyle(*words)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(f"error: {what} is empty; ")


def test_words_that_are_meant_may_look_like_options() -> None:
    assert "--yes holds no output" in restyle("forget", "--", "--yes").stderr
    assert "/no/such holds no output" in restyle("forget", "/no/such", "--source=--yes").stderr


def test_the_shell_completes_words() -> None:
    def completed(words: str) -> list[str]:
        env = {"_RESTYLE_COMPLETE": "complete_bash", "COMP_WORDS": words}
        env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        return restyle_named(env)

    assert completed("restyle in") == ["invert", "interpolate", "index"]
    assert completed("restyle directions f") == ["fit"]
    assert completed("restyle invert --recon") == ["--reconstructions"]


def restyle_named(env: dict[str, str]) -> list[str]:
    """Run the command under the name that it is installed under, which names the variable."""
    code = "import sys; sys.argv[0] = 'restyle'; from restyle.jobs.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True,
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()
