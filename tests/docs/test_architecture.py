"""docs/architecture.md has the sub-packages that there are, in the order that is enforced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_layers import ROOMS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


@pytest.mark.parametrize("room", [room for room, declared in ROOMS.items() if declared.layers])
def test_the_tables_follow_the_layers(room: str) -> None:
    part = PAGE.read_text(encoding="utf-8").partition(f"### {room}, lowest first\n")[2]
    table = part.partition("\n#")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    shown = [name for row in rows for name in re.findall(r"\w+", row)]
    layers = [entry for entry in ROOMS[room].layers.split() if entry != "__init__"]
    assert shown == list(dict.fromkeys(entry for entry in layers if "." not in entry))
