"""Small pictures in a terminal: two pixels in each character, one above the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

_SIDE = 20
_GAP = 2
_UPPER_HALF = "\u2580"
_ENOUGH_COLOURS = ("256", "truecolor")


def shows_pictures(console: Console) -> bool:
    """Whether a console is a terminal with enough colours."""
    return console.is_terminal and console.color_system in _ENOUGH_COLOURS


def print_pictures(
    console: Console, pictures: Sequence[Image.Image], captions: Sequence[str]
) -> None:
    """Print pictures side by side, as many as fit, with a caption below each.

    Args:
        console: a terminal, see :func:`shows_pictures`.
        pictures: of any size; RGB.
        captions: of the pictures; they are cut to their width.
    """
    across = max(1, (console.width + _GAP) // (_SIDE + _GAP))
    pairs = list(zip(pictures, captions, strict=True))
    for start in range(0, len(pairs), across):
        _print_row(console, pairs[start : start + across])


def _print_row(console: Console, row: Sequence[tuple[Image.Image, str]]) -> None:
    small = [np.asarray(each.resize((_SIDE, _SIDE), Image.Resampling.BOX)) for each, _ in row]
    for y in range(0, _SIDE, 2):
        line = Text(no_wrap=True)
        for picture in small:
            for upper, lower in zip(picture[y].tolist(), picture[y + 1].tolist(), strict=True):
                style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
                line.append(_UPPER_HALF, style)
            line.append(" " * _GAP)
        console.print(line)
    console.print((" " * _GAP).join(caption[:_SIDE].ljust(_SIDE) for _, caption in row))
    console.print()
