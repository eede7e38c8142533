"""What is said of the stages' seconds; the summary itself is tested with whole runs."""

from __future__ import annotations

import pytest

from restyle.pipeline.accounting.summary import bottleneck, stage_seconds

PARTS = {"read": 0.2, "decode": 2.0, "detect": 6.5, "landmarks": 0.25, "crop": 0.125}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({}, ""),
        # As an earlier version and as edits have them.
        ({"align": 9.0, "invert": 4.0, "encode": 1.0, "wait": 2.0}, ""),
        ({"align": 9.0, "starved": 9.0}, ""),
        (
            {**PARTS, "align": 9.0, "invert": 3.8, "starved": 6.2},
            "alignment keeps inversion waiting 62% of the time, for detection above all; add "
            "cores, or --align-actors on a cluster",
        ),
        (
            {**PARTS, "read": 60.0, "invert": 1.0, "starved": 3.0},
            "alignment keeps inversion waiting 75% of the time, for reading files above all; add "
            "cores, or --align-actors on a cluster",
        ),
        (
            {"invert": 9.0, "starved": 1.0},
            "inversion computes 90% of the time: alignment keeps up with it",
        ),
    ],
)
def test_bottleneck_is_what_the_model_waits_for(seconds: dict[str, float], expected: str) -> None:
    assert bottleneck(seconds) == expected


def test_stages_are_shown_with_the_parts_that_are_known() -> None:
    assert stage_seconds({}) == ""
    before = {"align": 9.0, "encode": 1.0, "invert": 4.04, "wait": 3.0}
    assert stage_seconds(before) == "align 9.0 s, invert 4.0 s, encode 1.0 s"
    shown = "read 0.2, decode 2.0, detect 6.5, landmarks 0.2, crop 0.1"
    now = {**PARTS, **before, "starved": 1.0}
    assert stage_seconds(now) == f"align 9.0 s ({shown}), invert 4.0 s, encode 1.0 s"
