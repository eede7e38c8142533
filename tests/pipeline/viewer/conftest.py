"""Runs to look at, shared by the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from restyle.core.editing.directions import About, Direction
from restyle.pipeline.inversion.model_identity import identify
from restyle.pipeline.viewer.run import ViewedRun
from tests.browser import open_browser
from tests.pipeline.fabricated import HOSTILE, Made, fabricate
from tests.tiny_model import make_tiny_model

FACES, REJECTS = 150, 130


@dataclass(frozen=True)
class Shown:
    """Two runs over nearly the same inputs, the model of which has two directions."""

    model: Path
    first: Path
    second: Path

    def runs(self) -> list[ViewedRun]:
        return [ViewedRun(str(self.first), str(self.model)), ViewedRun(str(self.second))]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("view")
    model = make_tiny_model(folder / "tiny")
    for seed, name in enumerate(("smile", "pose")):
        vector = np.random.default_rng(seed).standard_normal(32)
        about = About(name=name, kind="imported", scale=2.0)
        Direction.of(vector, about).save(model / "directions")
    known = identify(str(model))
    made = Made(
        faces=FACES,
        rejects=REJECTS,
        shape=(10, 32),
        steps=3,
        side=16,
        unit=64,
        names=HOSTILE,
        model=known.name,
        fingerprint=known.fingerprint,
    )
    fabricate(folder / "first <b>run", made)
    fewer = Made(faces=FACES - 20, steps=2, side=16, names=HOSTILE, seed=1)
    fabricate(folder / "second", fewer)
    return Shown(model, folder / "first <b>run", folder / "second")


@pytest.fixture(scope="session")
def edited(inverted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smiles of three photographs, with the photographs, in the order of their strengths."""
    from restyle.pipeline.editing.edit import edit
    from restyle.pipeline.editing.request import EditRequest, Move

    to = tmp_path_factory.mktemp("edited") / "smiles"
    moves = [Move("smile", (2.0, -2.0, 0.0))]
    out = str(inverted / "out")
    edit(EditRequest(out=out, to=str(to), moves=moves, paste_back="face", device="cpu"))
    return to
