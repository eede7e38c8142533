"""A run's decisions, with an engine that needs no Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle.core.errors import (
    CheckpointError,
    FatalError,
    RejectReason,
    SpecError,
    TransientError,
)
from restyle.core.inference.model import load_model
from restyle.pipeline.accounting.machine import WorkerInfo, WorkerUse
from restyle.pipeline.accounting.run_record import spec_of
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution import rounds
from restyle.pipeline.execution.job import UnitResult
from restyle.pipeline.execution.request import Outcome, Request
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.model_identity import identify
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.commit import write_unit
from restyle.pipeline.ledger.manifest import UnitRef, read_unit
from restyle.pipeline.ledger.rejects import rejected_unit
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Interrupted, Listener, Progress
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import DriverLock
from tests.pipeline import in_process
from tests.restyle_core.fabricate import checkpoint, save

Engine = Callable[[], contextlib.AbstractContextManager]


class Heard(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[Progress] = []
        self.found: list[int] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)

    def listed(self, inputs: int) -> None:
        self.found.append(inputs)

    def advanced(self, progress: Progress) -> None:
        self.progress.append(progress)


def engine(run_units: Callable[[InversionJob, Sequence[UnitRef]], Iterator[UnitResult]]) -> Engine:
    return lambda: contextlib.nullcontext(run_units)


def never(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
    raise AssertionError("nothing was to be run")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twenty noise images and two files that are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.jpg").write_bytes(b"text")
    return folder


@pytest.fixture
def request_of(images: Path, tmp_path: Path, tiny_model: Path) -> Callable[..., Request]:
    def make(**options: object) -> Request:
        given = {
            "model": str(tiny_model),
            "steps": 2,
            "align": False,
            "metrics": ("l2",),
            "dtype": "fp32",
        }
        fields = set(InversionSettings.model_fields)
        given |= {name: options.pop(name) for name in list(options) if name in fields}
        where = {"source": str(images), "out": str(tmp_path / "out"), "device": "cpu"} | options
        return Request(settings=InversionSettings(**given), **where)  # type: ignore[arg-type]

    return make


def run(request: Request, units: object = in_process.run_units) -> tuple[Outcome, Heard]:
    heard = Heard()
    return invert_images(request, heard, engine(units)), heard  # type: ignore[arg-type]


def files_of(folder: Path) -> dict[str, bytes]:
    """All files but the dated records, of which every run leaves one."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("run-")
    }


def test_a_run_accounts_for_every_input(request_of: Callable[..., Request], tmp_path: Path) -> None:
    outcome, heard = run(request_of())
    assert (outcome.images, outcome.summary.faces) == (22, 20)
    assert outcome.summary.rejects == {"empty": 1, "not_an_image": 1}
    assert [(p.done, p.total) for p in heard.progress] == [
        (0, 22),
        (8, 22),
        (16, 22),
        (22, 22),
    ]
    assert heard.progress[-1].rejects == 2
    assert any("fp32: asked for" in line and "cpu" in line for line in heard.lines)
    assert verify(str(tmp_path / "out")).problems == []

    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["state"] == "complete"
    assert record["counts"]["images"] == 22
    assert record["counts"]["rejects"] == {"empty": 1, "not_an_image": 1}
    assert (record["steps"], record["reconstructions"], record["metrics"]) == (2, "last", ["l2"])
    assert (record["dtype"], record["device"]) == ("fp32", "cpu")
    assert record["kernels"].startswith("native: ")
    (worker,) = record["workers"]
    assert worker == {
        "device": "cpu",
        "gpu": "",
        "dtype": "float32",
        "kernels": record["kernels"],
        "batch_size": 32,
        "graphs": "",
    }
    (used,) = record["used"]
    assert (used["device"], used["images"]) == ("cpu", record["counts"]["faces"])
    assert 0 < used["busy"] <= 1
    assert 100e6 < used["memory"] < 16e9
    assert record["versions"]["torch"].startswith("2.")
    assert record["settings"]["model_fingerprint"] == record["model"]["fingerprint"]
    steps = pd.read_parquet(tmp_path / "out" / "steps")
    assert record["means"]["l2"] == pytest.approx(
        steps.groupby("step").l2.mean().to_list(), rel=1e-5
    )
    assert outcome.report == str(tmp_path / "out" / "report.html")
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_same_run_again_does_nothing(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    first, _ = run(request_of())
    before = files_of(tmp_path / "out")
    again, heard = run(request_of(), never)
    assert heard.lines == ["nothing to do: every input is accounted for already"]
    assert again.images == 0
    assert again.summary == first.summary
    assert files_of(tmp_path / "out") == before


def test_automatic_precision_is_that_of_the_first_run(request_of: Callable[..., Request]) -> None:
    run(request_of(dtype="bf16", limit=3))
    outcome, heard = run(request_of(dtype="auto", limit=5))
    assert outcome.summary.faces == 5
    assert any("bf16: as this output was begun" in line for line in heard.lines)


def test_only_new_images_are_run(
    request_of: Callable[..., Request], images: Path, tmp_path: Path
) -> None:
    run(request_of())
    before = files_of(tmp_path / "out")
    shutil.copy(images / "00.png", images / "new.png")
    outcome, _ = run(request_of())
    assert outcome.images == 1
    assert outcome.summary.faces == 21
    after = files_of(tmp_path / "out")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"run.json", "report.html"}
    assert verify(str(tmp_path / "out")).problems == []


def test_limit_takes_the_first_and_a_later_run_the_rest(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    outcome, _ = run(request_of(limit=5))
    assert (outcome.images, outcome.summary.images) == (5, 5)
    latents = pd.read_parquet(tmp_path / "out" / "latents")
    assert [Path(source).name for source in latents.source] == [f"{i:02d}.png" for i in range(5)]
    assert run(request_of(limit=5), never)[0].images == 0
    outcome, _ = run(request_of())
    assert (outcome.images, outcome.summary.images) == (17, 22)
    assert verify(str(tmp_path / "out")).problems == []


def test_changed_images_get_new_rows_and_are_mentioned(
    request_of: Callable[..., Request], images: Path, tmp_path: Path
) -> None:
    run(request_of())
    (images / "notes.jpg").write_bytes(b"other text")
    outcome, heard = run(request_of())
    assert outcome.images == 1
    assert any("1 input has changed" in line for line in heard.lines)
    assert verify(str(tmp_path / "out")).problems == []


def test_other_settings_are_refused_with_the_difference(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    run(request_of(limit=3))
    before = files_of(tmp_path / "out")
    with pytest.raises(SpecError, match=r"steps: 2 -> 3; metrics: l2 -> none"):
        run(request_of(limit=3, steps=3, metrics=()), never)
    assert files_of(tmp_path / "out") == before


def test_settings_without_rows_bind_nobody(request_of: Callable[..., Request]) -> None:
    def killed(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"0 of 22 inputs are done.*same command again"):
        run(request_of(), killed)
    outcome, _ = run(request_of(steps=3))
    assert outcome.summary.faces == 20


def test_an_interrupted_run_continues(request_of: Callable[..., Request], tmp_path: Path) -> None:
    def interrupted(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield from in_process.run_units(job, units[:1])
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="8 of 22 inputs are done"):
        run(request_of(), interrupted)
    status = read_status(str(tmp_path / "out"))
    assert status.run is not None
    assert status.run.state == "interrupted"
    assert status.summary.pending_images == 14
    (problem,) = verify(str(tmp_path / "out")).problems
    assert "14 inputs in 2 units are not done" in problem
    assert run(request_of())[0].images == 14
    assert verify(str(tmp_path / "out")).problems == []


def test_workers_say_for_themselves_how_they_computed(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    def elsewhere(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        for number, result in enumerate(in_process.run_units(job, units)):
            use = WorkerUse(f"worker {number % 2}", "cuda:0 (GPU 1)", number, 0.5, 2**30)
            gpu = "H100" if number else "A100"
            at = WorkerInfo("cuda", gpu, "float32", "native: nvcc", 16, use=use)
            yield dataclasses.replace(result, worker_info=at)

    run(request_of(), elsewhere)
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert [worker["gpu"] for worker in record["workers"]] == ["A100", "H100"]
    assert (record["device"], record["kernels"]) == ("cuda", "native: nvcc")
    # Of each worker the last of its reports.
    last = record["counts"]["units"] - 1
    assert {use["worker"]: use["images"] for use in record["used"]} == {
        f"worker {last % 2}": last,
        f"worker {(last - 1) % 2}": last - 1,
    }


def test_units_that_fail_are_tried_again_and_then_given_up(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_BACK_OFF", (0.0, 0.0))
    tried: list[list[str]] = []

    def flaky(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        tried.append([unit.name[:6] for unit in units])
        if len(tried) == 2:
            raise RuntimeError("the cluster\nfell over")
        for unit in units:
            if unit.name.startswith("000001"):
                yield UnitResult(unit.name, error="OSError: storage is away")
            else:
                yield from in_process.run_units(job, [unit])

    with pytest.raises(FatalError, match=r"1 unit failed 3 times.*storage is away") as caught:
        run(request_of(), flaky)
    assert "\n" not in str(caught.value)
    assert tried == [["000000", "000001", "000002"], *[["000001"]] * 3]
    status = read_status(str(tmp_path / "out"))
    assert status.run is not None
    assert status.run.state == "failed"
    assert (status.summary.done_images, status.summary.pending_images) == (14, 8)
    failures = tmp_path / "out" / "_ledger" / "failures.txt"
    assert failures.read_text().startswith("000001-")
    outcome, _ = run(request_of())
    assert outcome.images == 8
    assert not failures.exists()
    assert verify(str(tmp_path / "out")).problems == []


def test_a_run_of_which_nothing_succeeds_keeps_the_details_that_it_names(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_BACK_OFF", (0.0, 0.0))

    def failing(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        for unit in units:
            yield UnitResult(unit.name, error="OSError: storage is away", trace="at line 7")

    failures = tmp_path / "out" / "_ledger" / "failures.txt"
    with pytest.raises(FatalError, match=rf"details are in {failures}, ") as caught:
        run(request_of(), failing)
    assert failures.read_text().count("at line 7") == 3
    status = read_status(str(tmp_path / "out"))
    assert status.run is not None
    assert (status.run.state, status.run.error) == ("failed", str(caught.value))
    outcome, _ = run(request_of())
    assert outcome.images == 22
    assert not failures.exists()


def test_a_unit_whose_receipt_is_lost_is_not_run_again(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    def forgetful(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        results = list(in_process.run_units(job, units))
        yield from (results[0], results[0])
        raise RuntimeError("the worker is gone")

    outcome, heard = run(request_of(), forgetful)
    assert outcome.images == 22
    assert heard.progress[-1].done == 22
    assert not any("failed" in line for line in heard.lines)


def test_a_fatal_error_before_the_first_unit_leaves_nothing(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    def fatal(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield UnitResult(units[0].name, error="no space is left", fatal=True)

    with pytest.raises(FatalError, match="no space is left"):
        run(request_of(), fatal)
    assert not (tmp_path / "out").exists()


def test_a_fatal_error_later_keeps_what_is_done(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    def fatal(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield from in_process.run_units(job, units[:1])
        yield UnitResult(units[1].name, error="no space is left", fatal=True)

    with pytest.raises(FatalError, match="no space is left"):
        run(request_of(), fatal)
    status = read_status(str(tmp_path / "out"))
    assert status.run is not None
    assert (status.run.state, status.run.error) == ("failed", "no space is left")
    assert run(request_of())[0].images == 14


def test_too_many_rejects_stop_the_run(
    request_of: Callable[..., Request], images: Path, tmp_path: Path
) -> None:
    for index in range(60):
        (images / f"zz{index:02d}.jpg").write_bytes(b"text")
    with pytest.raises(FatalError, match=r"of 48 inputs were rejected.*--max-reject-rate 0.5"):
        run(request_of(max_reject_rate=0.5))
    assert read_status(str(tmp_path / "out")).summary.done_images == 48
    assert run(request_of())[0].images == 34


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"source": "/no/such/folder"}, SpecError, "correct INPUT"),
        ({"model": "nobody"}, SpecError, "no model is called 'nobody'"),
        ({"model": "/no/such/model.pt"}, CheckpointError, "does not exist"),
        ({"device": "cuda:99"}, SpecError, "cuda:99"),
        ({"device": "abacus"}, SpecError, "abacus"),
        ({"out": "/dev/null/out"}, FatalError, "/dev/null"),
    ],
)
def test_bad_requests_write_nothing(
    request_of: Callable[..., Request],
    tmp_path: Path,
    options: dict[str, str],
    kind: type[Exception],
    words: str,
) -> None:
    with pytest.raises(kind, match=words) as caught:
        run(request_of(**options), never)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoder", ["restyle-psp", "single-pass-psp"])
def test_the_identity_is_that_of_the_loaded_model(tiny_model: Path, encoder: str) -> None:
    found = identify(f"{tiny_model}:{encoder}")
    loaded = load_model(f"{tiny_model}:{encoder}", dtype="fp32", device="cpu")
    assert found.fingerprint == loaded.fingerprint
    assert (found.encoder, found.iterative) == (loaded.encoder_name, loaded.iterative)
    assert found.name == f"tiny:{encoder}"


def test_a_damaged_model_is_found_out_before_anything_starts(
    request_of: Callable[..., Request], tiny_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    with (copy / "generator.safetensors").open("r+b") as file:
        file.seek(-1, io.SEEK_END)
        file.write(b"\x55")
    with pytest.raises(CheckpointError, match="damaged"):
        run(request_of(model=str(copy)), never)
    assert not (tmp_path / "out").exists()


def test_a_run_killed_after_its_last_unit_is_concluded(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    run(request_of())
    (tmp_path / "out" / "report.html").unlink()
    outcome, _ = run(request_of(), never)
    assert outcome.images == 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_run_whose_lock_was_taken_leaves_the_output_alone(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, bytes]] = []

    def robbed(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        def check(_: DriverLock) -> None:
            raise FatalError("another run has taken over")

        monkeypatch.setattr(DriverLock, "check", check)
        seen.append(files_of(tmp_path / "out"))
        yield UnitResult(units[0].name, error="no space is left", fatal=True)

    with pytest.raises(FatalError, match="no space is left"):
        run(request_of(), robbed)
    left = files_of(tmp_path / "out")
    assert {name: data for name, data in seen[0].items() if "driver-" not in name} == left
    assert "_ledger/plan-000000.parquet" in left


def test_a_worker_thought_dead_may_commit_its_unit_once_more(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    """After its result, and with other files: the entry counts, and not what was told before."""

    def twice(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield from in_process.run_units(job, units)
        storage = open_storage(job.out)
        unit, reason = read_unit(storage, units[0]), RejectReason.UNREADABLE
        rejected = rejected_unit(unit, "read", reason, "no answer", job.fingerprint)
        write_unit(storage, rejected, job.fingerprint)

    outcome, _ = run(request_of(), twice)
    proof = verify(str(tmp_path / "out"))
    assert (proof.problems, proof.images, proof.rejects) == ([], 22, 10)
    assert (outcome.summary.faces, outcome.summary.rejected) == (12, 10)


@pytest.mark.parametrize("what", ["ledger", "datasets", "claim", "claim gone", "file"])
def test_a_failed_run_withdraws_only_when_it_is_certain_that_there_are_no_rows(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    local = type(open_storage(str(tmp_path)))
    sizes, read = local.sizes, local.read
    plan = tmp_path / "out" / "_ledger" / "plan-000000.parquet"

    def listed(self: Storage, folder: str) -> dict[str, int]:
        if folder == ("_ledger" if what == "ledger" else "latents"):
            raise TransientError("the store does not answer")
        return sizes(self, folder)

    def answered(self: Storage, name: str) -> bytes:
        if "driver-" in name:
            raise TransientError("the store does not answer")
        return read(self, name)

    def fatal(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        if what == "file":
            (tmp_path / "out" / "latents").mkdir()
            (tmp_path / "out" / "latents" / "part-of-a-worker.parquet").write_bytes(b"x")
        elif what == "claim gone":
            next((tmp_path / "out" / "_ledger").glob("driver-*")).unlink()
        elif what == "claim":
            monkeypatch.setattr(local, "read", answered)
        else:
            monkeypatch.setattr(local, "sizes", listed)
        yield UnitResult(units[0].name, error="no space is left", fatal=True)

    with pytest.raises(FatalError, match="no space is left"):
        run(request_of(), fatal)
    assert plan.is_file()
    assert (tmp_path / "out" / "_ledger" / "settings.json").is_file()


def test_an_output_keeps_the_domain_that_it_was_begun_with(images: Path, tmp_path: Path) -> None:
    """As those do that a version began which took a file of toonify's for one of no domain."""
    file = save(checkpoint("BackboneEncoder", 64, dataset="toonify"), tmp_path / "toonify.pt")
    (tmp_path / "few").mkdir()
    for name in ("00.png", "01.png"):
        shutil.copy(images / name, tmp_path / "few" / name)
    out = tmp_path / "out"

    def invert(model: str) -> list[str]:
        settings = InversionSettings(model=model, steps=1, metrics=(), dtype="fp32")
        request = Request(str(tmp_path / "few"), str(out), settings, device="cpu")
        return run(request)[1].lines

    invert(f"{file}:toonify")
    record = json.loads((out / "run.json").read_text())
    assert record["model"]["domain"] == "toonify"
    record["model"]["spec"] = str(file)
    (out / "run.json").write_text(json.dumps(record))
    shutil.copy(images / "02.png", tmp_path / "few")
    assert any("domain toonify, photographs are taken whole" in line for line in invert(str(file)))
    assert spec_of(open_storage(str(out)), "") == f"{file}:toonify"
    with pytest.raises(SpecError, match="was made with other settings"):
        invert(f"{file}:faces")


def test_a_run_that_fails_names_what_ray_said(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    log = tmp_path / "out" / "_ledger" / "ray.log"

    def failing(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield from in_process.run_units(job, units[:1])
        log.write_text("a worker died\n")
        yield UnitResult(units[1].name, error="the disk is full", fatal=True)

    with pytest.raises(FatalError, match=rf"^the disk is full; what Ray said is in {log}$"):
        run(request_of(), failing)
    # It is the last run's: the next begins without it.
    run(request_of())
    assert not log.exists()
