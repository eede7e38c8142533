"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.inverted import make_inverted
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[1]

# A shell that starts the suite in the background has it ignore these, and every command that a
# test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Every process that a test starts would compile the project's modules again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Test processes that share the cores would wait for one another's threads, and so would the
# commands that they start.
_AT_ONCE = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _AT_ONCE > 1:
    _THREADS = max(1, (os.cpu_count() or 1) // _AT_ONCE)
    torch.set_num_threads(_THREADS)
    os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with random weights; face-aligned, 64x64."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def photos() -> Path:
    """The sample photographs that ship with the project."""
    return ROOT / "samples" / "photos"


@pytest.fixture(scope="session")
def inverted(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with ``photos`` and, in ``out``, their inversion by the embedded model."""
    return make_inverted(tmp_path_factory.mktemp("inverted"), photos)
