"""The commands that are useful after a run, printed on standard error for people."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

from restyle.core.errors import RestyleError
from restyle.jobs.display.terminal import say

_MAY_PASS = ("unreadable", "timed_out", "crashed")
Next = tuple[list[str], str]
"""Words of a command, and what it is for."""


def say_next(commands: Iterable[Next]) -> None:
    """Print each command on a line, quoted for a shell, with what it is for."""
    shown = [(shlex.join(["restyle", *words]), purpose) for words, purpose in commands]
    width = max((len(line) for line, _ in shown), default=0)
    for line, purpose in shown:
        say(f"next: {line.ljust(width)}  {purpose}", error=True)


def after_inversion(out: str, model: str, faces: int, rejects: Collection[str]) -> list[Next]:
    """Return the commands that are useful after an inversion.

    Args:
        out: the output.
        model: that inverted, as for ``restyle invert``.
        faces: number of faces of the output.
        rejects: reasons for which inputs were rejected.
    """
    commands: list[Next] = []
    if faces:
        commands.append((["view", out], "see the faces and their steps in a browser"))
        if name := _direction(model):
            words = ["edit", out, "--direction", name, "--out", f"{out.rstrip('/')}-{name}"]
            commands.append((words, "change them"))
    if not set(rejects).isdisjoint(_MAY_PASS):
        commands.append((["retry-rejects", out], "try again what may have passed"))
    elif rejects:
        words = ["query", out, "select source, message from rejects"]
        commands.append((words, "see what was rejected, and why"))
    return commands


def after_edits(edits: str) -> list[Next]:
    """Return the commands that are useful after edits."""
    identity = "select edit, avg(id_similarity) from edits group by edit order by edit"
    return [
        (["view", edits], "see every face at each strength in a browser"),
        (["query", edits, identity], "how much of the identity each edit keeps"),
        (["verify", edits], "prove that every face has every edit"),
    ]


def _direction(model: str) -> str:
    """Return the name of a direction that the model has; empty if it has none."""
    from restyle.core.editing.lookup import directions_of

    try:
        names = list(directions_of(model))
    except RestyleError:
        # The model lies elsewhere by now, or is a file.
        return ""
    return "smile" if "smile" in names else next(iter(names), "")
