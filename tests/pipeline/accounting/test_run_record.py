"""Dated records: names that sort by time, and what a record must never hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from restyle.pipeline.accounting.run_record import (
    Asked,
    Counts,
    RunRecord,
    Timings,
    archive_run,
    dated_name,
    read_runs,
    run_name,
)
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.storage.filesystem import Storage, open_storage
from tests.pipeline.resolved import resolved


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "out"))


def record(run: str, **fields: object) -> RunRecord:
    settings = resolved()
    whole = RunRecord(
        run=run,
        state="running",
        asked=Asked(
            source="in", out="out", limit=None, device="cpu", batch_size=None, max_reject_rate=1.0
        ),
        settings=settings.model_dump(mode="json"),
        fingerprint=settings.fingerprint,
        model={},
        device="cpu",
        dtype="fp32",
        dtype_reason="",
        steps=5,
        reconstructions="last",
        metrics=[],
        counts=Counts(
            units=0, pending_units=0, images=0, pending_images=0, faces=0, rejected=0, rejects={}
        ),
        timings=Timings(started="2026-01-31T23:59:59+00:00"),
        versions={},
        machine={},
    )
    return whole.model_copy(update=fields)


def test_a_request_is_recorded_whole_and_without_secrets() -> None:
    request = Request(
        source="https://user:geheim@host/in?token=geheim",
        out="s3://key:geheim@bucket/out",
        settings=InversionSettings(),
        batch_size=4,
        limit=9,
        input=InputOptions(format="list", column="uri"),
        workers=Workers(
            address="head:6379", align_actors=(1, 2), invert_actors=(3, 4), gpus_per_actor=0.5
        ),
    )
    written = request.recorded("retry-rejects")
    assert "geheim" not in written.model_dump_json()
    assert written == Asked(
        source="https://host/in",
        out="s3://bucket/out",
        limit=9,
        device="auto",
        batch_size=4,
        max_reject_rate=1.0,
        command="retry-rejects",
        input_format="list",
        column="uri",
        address="head:6379",
        align_actors=(1, 2),
        invert_actors=(3, 4),
        gpus_per_actor=0.5,
    )


def test_a_run_has_one_record_that_its_end_replaces(storage: Storage) -> None:
    begun = record(run_name())
    assert archive_run(storage, begun) == dated_name(begun.run)
    assert read_runs(storage) == [begun]
    ended = begun.model_copy(update={"state": "complete", "new": 3})
    archive_run(storage, ended)
    assert read_runs(storage) == [ended]


def test_runs_come_in_the_order_of_their_beginning(storage: Storage) -> None:
    names = ["20260131T235959Z-ffffffff", "20260201T000000Z-00000000", "20261101T000000Z-00000000"]
    for name in reversed(names):
        archive_run(storage, record(name))
    found = read_runs(storage)
    assert [each.run for each in found if isinstance(each, RunRecord)] == names
    (last,) = read_runs(storage, 1)
    assert isinstance(last, RunRecord)
    assert last.run == names[-1]


def test_two_runs_of_one_second_have_different_names() -> None:
    names = [run_name() for _ in range(100)]
    assert len(set(names)) == 100
    assert [name[:22] for name in names] == sorted(name[:22] for name in names)


def test_a_damaged_record_hides_no_other(storage: Storage) -> None:
    archive_run(storage, record("20260101T000000Z-00000000"))
    damaged = dated_name("20260102T000000Z-00000000")
    storage.write(damaged, b"{")
    first, second = read_runs(storage)
    assert isinstance(first, RunRecord)
    assert second == storage.shown(damaged)
