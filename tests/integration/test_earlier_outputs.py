"""Outputs that version 0.1 wrote are read, proven and continued.

``tests/outputs/version-0.1`` holds an inversion of three inputs (two photographs with three faces
and an empty file) by faces64, fp32, two steps, and its edits along ``smile``, as commit 0f70225
wrote them into ``/tmp/oldrun``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from restyle.core.editing.strengths import parse_strengths
from restyle.core.errors import RejectReason
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.run_record import read_runs
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.results.latents import read_latents
from restyle.pipeline.results.query import query
from restyle.pipeline.storage.filesystem import open_storage

KEPT = Path(__file__).parents[1] / "outputs" / "version-0.1"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "earlier"))


def test_they_are_read_and_proven(earlier: Path) -> None:
    inversion, edits = earlier / "inversion", earlier / "edits"
    proof, of_edits = verify(str(inversion)), verify(str(edits))
    assert (proof.problems, proof.images, proof.faces, proof.rejects) == ([], 3, 3, 1)
    assert (of_edits.problems, of_edits.images, of_edits.faces) == ([], 2, 3)
    rows, w = read_latents(str(inversion))
    assert w.shape == (3, 10, 512)
    assert np.isfinite(w).all()
    assert sorted(rows.source.str.rsplit("/").str[-1]) == [
        "smile.jpg",
        "two friends.jpg",
        "two friends.jpg",
    ]
    assert read_status(str(inversion)).summary.rejects == {RejectReason.EMPTY: 1}
    (run,) = read_runs(open_storage(str(inversion)))
    assert not isinstance(run, str)
    assert (run.operation, run.state, run.steps) == ("inversion", "complete", 2)
    counted = query(str(edits), "select count(*) as n from edits").read_all()
    assert counted.to_pylist() == [{"n": 6}]


def test_they_are_continued(earlier: Path, tmp_path: Path, photos: Path) -> None:
    inversion, edits = earlier / "inversion", earlier / "edits"
    before, w_before = read_latents(str(inversion))
    (tmp_path / "more").mkdir()
    shutil.copy(photos / "evening.jpg", tmp_path / "more")
    here = Workers(executor="local")
    settings = InversionSettings(steps=2, faces="all", metrics=("l2",), dtype="fp32")
    outcome = invert_images(
        Request(str(tmp_path / "more"), str(inversion), settings, device="cpu", workers=here)
    )
    assert outcome.images == 1
    after, w_after = read_latents(str(inversion))
    kept = after.image_id.isin(before.image_id)
    assert np.array_equal(w_after[kept.to_numpy()], w_before)
    assert kept.sum() == len(before) < len(after)
    assert verify(str(inversion)).problems == []
    edited = edit(
        EditRequest(
            str(inversion),
            str(edits),
            [Move("smile", parse_strengths("0,1"))],
            device="cpu",
            workers=here,
        )
    )
    assert edited.photographs == 1
    compact(str(edits))
    compact(str(inversion))
    for out in (inversion, edits):
        assert verify(str(out)).problems == []
        assert len(list((out / "_ledger").glob("pack-*.json"))) == 1
        assert (out / "report.html").exists()
        assert (out / "run.json").exists()
