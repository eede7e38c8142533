"""Checks on a real GPU: ``make gpu-check``. Elsewhere each is skipped and says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from restyle.core.bench.random_model import write_random_model


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc, which compiles the operators, is not installed")


@pytest.fixture(scope="session")
def faces1024(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the published shape with random weights."""
    return write_random_model("faces1024", tmp_path_factory.mktemp("model") / "faces1024")
