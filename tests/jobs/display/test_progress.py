"""Progress in the terminal: what is counted."""

from __future__ import annotations

import pytest
from rich.console import Console

from restyle.jobs.display.progress import ProgressDisplay
from restyle.pipeline.listener import Progress


@pytest.mark.parametrize(
    ("pictures", "line"),
    [
        (None, "2/10 inputs, 1 images/s"),
        (5, "10/50 pictures, 5 pictures/s"),
        (1, "2/10 pictures, 1 pictures/s"),
    ],
)
def test_edits_are_counted_in_pictures(
    monkeypatch: pytest.MonkeyPatch, pictures: int | None, line: str
) -> None:
    monkeypatch.setattr("restyle.jobs.display.progress._LINE_EVERY", 0.0)
    console = Console(record=True, force_terminal=False, width=120)
    with ProgressDisplay(console, "editing", pictures) as display:
        display.advanced(Progress(2, 10, 0, 2.0))
    (said,) = console.export_text().splitlines()
    assert said.startswith(line)
