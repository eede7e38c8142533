"""Notes on how inputs were read reach the person, and nothing is rejected for them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restyle.pipeline.decoding.crops import CropSettings
from restyle.pipeline.decoding.sandbox import IsolatedCropper
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline import in_process

BROKEN = b"no profile at all"


class Heard(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)


def picture(profile: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", icc_profile=profile or None)
    return buffer.getvalue()


def test_notes_come_out_of_the_process_that_decodes() -> None:
    cropper = IsolatedCropper(CropSettings(align=False, faces="largest", size=(64, 64)))
    try:
        plain, broken, none, again = cropper([picture(), picture(BROKEN), b"", picture()])
    finally:
        cropper.close()
    notes = [crops[0].note for crops in (plain, broken, again) if isinstance(crops, list)]
    assert [bool(note) for note in notes] == [False, True, False]
    assert "colour profile cannot be used" in notes[1]
    assert isinstance(none, Exception)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_broken_profiles_are_told_and_kept(tiny_model: Path, tmp_path: Path, count: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "plain.png").write_bytes(picture())
    for number in range(count):
        (tmp_path / "in" / f"{number:02d}.png").write_bytes(picture(BROKEN))
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=(), dtype="fp32"
    )
    request = Request(str(tmp_path / "in"), str(tmp_path / "out"), settings, device="cpu")
    heard = Heard()
    outcome = invert_images(request, heard, lambda: contextlib.nullcontext(in_process.run_units))
    assert (outcome.summary.faces, outcome.summary.rejects) == (count + 1, {})
    told = [line for line in heard.lines if "colour profile" in line]
    assert len(told) == min(count, 5)
    assert told[0].startswith(f"{tmp_path}/in/00.png: its colour profile cannot be used (")
    told_of_more = "further notes are only in the records of the units in _ledger" in heard.lines
    assert told_of_more == (count > 5)
    storage = open_storage(request.out)
    records = ledger.read_records(storage, sorted(ledger.read_entries(storage).units))
    assert sum(len(record.notes) for record in records) == count
