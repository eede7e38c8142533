"""Bodies of responses, and values of queries."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from restyle.core.errors import SpecError


@dataclass(frozen=True)
class Answer:
    """The body of a response.

    Attributes:
        body: content.
        kind: media type.
        may_be_kept: whether the browser may keep it.
        saved_as: name of the file to save it as; empty to show it.
    """

    body: bytes
    kind: str
    may_be_kept: bool = False
    saved_as: str = ""


def whole_from(name: str, text: str) -> int:
    """A whole number of a query.

    Raises:
        SpecError: it is none.
    """
    if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
        raise SpecError(f"{name} must be a whole number")
    return int(text)


def number_from(name: str, text: str) -> float:
    """A finite number of a query.

    Raises:
        SpecError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpecError(f"{name[:50]} must be a number")
    return value
