"""The table of means in terminals of any width: no number is cut."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from restyle.jobs.display import tables
from restyle.jobs.display.edit_tables import show_edits
from restyle.pipeline.editing.summary import EditSummary


@pytest.mark.parametrize(
    ("width", "steps"),
    [(30, [5]), (36, [1, 5]), (40, [1, 3, 5]), (58, [1, 2, 3, 4, 5]), (80, [1, 2, 3, 4, 5])],
)
def test_a_narrow_terminal_has_fewer_steps_and_whole_numbers(width: int, steps: list[int]) -> None:
    means: Any = {
        "l2": [0.1111, 0.2222, 0.3333, 0.4444, 0.5555],
        "psnr": [21.1111, 22.2222, 23.3333, 24.4444, 25.5555],
        "id_similarity": [0.9111, 0.9222, 0.9333, 0.9444, None],
    }
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(tables._metrics(means, console.width))
    head, *rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [int(word) for word in head.removeprefix("mean per step").split()] == steps
    shown = {row.split()[0]: row.split()[1:] for row in rows}
    for name, values in means.items():
        chosen = [values[step - 1] for step in steps]
        assert shown[name] == ["-" if value is None else f"{value:.4f}" for value in chosen]


def test_what_was_measured_on_no_face_has_a_dash() -> None:
    settings: Any = SimpleNamespace(directions=[SimpleNamespace(name="smile")])
    summary = EditSummary(
        faces=2,
        combinations=[(-1.0,), (9999.0,)],
        identity=np.array([0.99, np.nan]),
        changes={"smile": np.array([-0.1, np.nan])},
        steadiness=None,
        without_photo=0,
    )
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    show_edits(console, settings, summary)
    rows = console.file.getvalue().splitlines()[-2:]  # type: ignore[attr-defined]
    assert [row.split() for row in rows] == [["-1", "0.990", "-0.100"], ["+9999", "-", "-"]]
