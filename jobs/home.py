"""``~`` at the start of a path, where the shell leaves it: ``--out=~/x``, quotes, variables."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping, Sequence

# As of an option or of the whole word; a user's name may follow, as in a shell.
_WORD = re.compile(r"(--[a-z][\w-]*=)?(~[\w.-]*/.*|~)", re.DOTALL)

_OURS = "RESTYLE_"


def expanded(words: Sequence[str]) -> list[str]:
    """Words of a command line, those that begin at a home spelled out.

    Args:
        words: without the program's name. One of an unknown user stays as it is.
    """
    return [_expanded(word) for word in words]


def expand_variables(environment: MutableMapping[str, str] = os.environ) -> None:
    """Do the same to this project's environment variables, for this process and its workers."""
    for name, value in environment.items():
        if name.startswith(_OURS):
            environment[name] = _expanded(value)


def _expanded(word: str) -> str:
    match = _WORD.fullmatch(word)
    if match is None:
        return word
    # Not Path.expanduser, which raises for an unknown user.
    return (match[1] or "") + os.path.expanduser(match[2])  # noqa: PTH111
