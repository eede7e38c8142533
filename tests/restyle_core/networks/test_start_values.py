from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from restyle.core.networks.start_values import noise


def test_noise_is_what_the_usual_formula_gives() -> None:
    torch.manual_seed(3)
    found = noise(5, 7, std=0.25, mean=2.0)
    torch.manual_seed(3)
    torch.testing.assert_close(found, torch.randn(5, 7) * 0.25 + 2.0)
    assert noise(200, 500, std=0.1).std().item() == pytest.approx(0.1, rel=0.02)


def test_loading_a_model_imports_no_compiler(tiny_model: object) -> None:
    code = (
        "import sys; from restyle.core import load_model; load_model(sys.argv[1]);"
        "print(*(m for m in sys.modules if m.startswith('torch._dynamo')))"
    )
    command = [sys.executable, "-c", code, str(tiny_model)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == ""


def test_on_the_meta_device_there_is_only_a_shape() -> None:
    with torch.device("meta"):
        values = noise(2, 3, std=4.0)
    assert (values.is_meta, tuple(values.shape)) == (True, (2, 3))
