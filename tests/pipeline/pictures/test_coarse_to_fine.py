"""Changes by frequency, over the faces of an output."""

from __future__ import annotations

import contextlib
import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restyle.core import align_faces, load_model, refine
from restyle.core.errors import RejectError, SpecError
from restyle.core.metrics.frequency_bands import band_energies
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.pictures import coarse_to_fine as module
from restyle.pipeline.pictures.band_plot import band_plot
from restyle.pipeline.pictures.coarse_to_fine import CoarseToFine, coarse_to_fine
from restyle.pipeline.results.aligned_inputs import read_inputs
from restyle.pipeline.results.face_rows import Selection, select_keys
from restyle.pipeline.storage.filesystem import open_storage

SAMPLES = Path(__file__).parents[3] / "samples" / "photos"


def test_it_is_the_mean_of_what_each_step_changed(
    inverted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    out = str(inverted / "out")
    found = coarse_to_fine(out, 10, None, "cpu")
    assert found.faces == 3
    assert found.bands == ["below 2", "2-4", "4-8", "8-16", "16 and up"]
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    model = load_model("faces64", dtype="fp32", device="cpu")
    keys = set(select_keys(out, Selection()))
    pictures = [image for _, image in read_inputs(out, settings_of(open_storage(out)), keys)]
    with torch.inference_mode():
        average = model.average_image.clamp(-1, 1)
        images = [step.pooled.clamp(-1, 1) for step in refine(model, model.preprocess(pictures), 3)]
    changes = [images[0] - average, images[1] - images[0], images[2] - images[1]]
    expected = np.stack([band_energies(change).mean(dim=0).numpy() for change in changes])
    np.testing.assert_allclose(found.energies, expected, rtol=1e-3)


def test_refinement_goes_from_coarse_to_fine() -> None:
    """Over many faces: those of the samples. Single ones may be near the average already."""
    model = load_model("faces64", dtype="fp32", device="cpu")
    faces = []
    for path in sorted(SAMPLES.glob("*.jpg")):
        with Image.open(path) as picture, contextlib.suppress(RejectError):
            photo = picture.convert("RGB")
            faces += align_faces(photo, size=256, faces="all", framing=model.framing)
    assert len(faces) > 20
    with torch.inference_mode():
        images = [model.average_image] + [
            step.pooled for step in refine(model, model.preprocess([f.image for f in faces]), 5)
        ]
        changes = [band_energies(b - a).mean(dim=0) for a, b in itertools.pairwise(images)]
    shares = torch.stack([change / change.sum() for change in changes])
    assert (shares[:, 0].diff() < 0).all()
    assert (shares[:, -1].diff() > 0).all()


def test_fewer_faces_on_request(inverted: Path) -> None:
    assert coarse_to_fine(str(inverted / "out"), 1, None, "cpu").faces == 1
    with pytest.raises(SpecError, match="holds no output"):
        coarse_to_fine("/no/such", 1, None, "cpu")


def test_the_drawing_has_the_shares() -> None:
    energies = np.array([[6.0, 3.0, 1.0], [1.0, 2.0, 1.0]])
    drawing = ET.fromstring(band_plot(CoarseToFine(7, ["below 2", "2-4", "<up>"], energies)))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    boxes = [box for box in drawing.iter(f"{space}rect") if box.get("width") == "44"]
    heights = np.array([float(box.get("height", 0)) for box in boxes]).reshape(2, 3)
    np.testing.assert_allclose(heights / heights.sum(axis=1, keepdims=True),
                               [[0.6, 0.3, 0.1], [0.25, 0.5, 0.25]], atol=1e-3)  # fmt: skip
    words = [text.text for text in drawing.iter(f"{space}text")]
    assert "<up>" in words
    assert any("mean of 7 faces" in str(word) for word in words)
