"""An evaluation of three photographs by a model with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from restyle.pipeline.evaluation.request import Evaluation, EvaluationRequest
from restyle.pipeline.evaluation.run import evaluate
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.ledger.settings import InversionSettings
from tests.inverted import NAMES

METHODS = ("restyle:3", "single-pass", "polish:2")


def request_of(photos: Path, out: Path, model: Path, *methods: str) -> EvaluationRequest:
    settings = InversionSettings(dtype="fp32", metrics=("l2", "lpips", "id_similarity"))
    base = Request(str(photos), str(out), settings, device="cpu", workers=Workers(executor="local"))
    return EvaluationRequest(base, methods or METHODS, (str(model),))


@pytest.fixture(scope="session")
def some_photos(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Three photographs with a face each, and one without."""
    folder = tmp_path_factory.mktemp("some")
    for name in NAMES:
        shutil.copy(photos / name, folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    return folder


@pytest.fixture(scope="session")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, some_photos: Path, tiny_model: Path
) -> tuple[Path, Evaluation]:
    """A finished evaluation: its folder and its outcome."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return out, evaluate(request_of(some_photos, out, tiny_model))
