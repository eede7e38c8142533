"""docs/architecture.md has the sub-packages that there are, in the order that is enforced."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from restyle.core.metrics.registry import METRICS, Setting
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


def test_the_metric_of_the_page_is_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)  # noqa: S102
    metric = names["METRIC"]
    setting = Setting(device=torch.device("cpu"), dtype=torch.float32, framing=None)
    images = torch.linspace(-1, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    values = metric.load(setting)(images)(torch.zeros_like(images))
    expected = [abs(float(image.double().mean())) for image in images]
    assert values.tolist() == pytest.approx(expected)

    project = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    assert project["project"]["entry-points"] == {
        METRICS.group: {metric.name: "your_package.brightness:METRIC"}
    }
