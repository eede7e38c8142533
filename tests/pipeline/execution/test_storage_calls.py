"""How often a run asks the storage of its output: the figures of docs/exactly-once.md.

On a disk, what the interpreter asks the system for is counted; on S3, the requests that a server
gets.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from restyle.pipeline.execution import rounds
from restyle.pipeline.execution.job import Job, UnitResult
from restyle.pipeline.execution.local import run_here
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.execution.rounds import Execute
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.planning.input_plan import InputPlan, plan_only
from restyle.pipeline.sources.options import InputOptions
from tests.s3_server import faulty_s3

Calls = Counter[str]
"""How often each was asked for, such as ``list latents`` or ``read _ledger/plan``."""


class Disk:
    """Counts what this process asks the system for below a folder."""

    def __init__(self, out: Path) -> None:
        self.out = str(out)
        self.seen: list[str] = []
        _disks.append(self)

    def close(self) -> None:
        _disks.remove(self)

    def counted(self) -> Calls:
        calls = _counted(self.seen)
        # Whoever opens an output looks which of its folders are there.
        del calls["list ."]
        return calls

    def expected(self, calls: Calls, *, swept: bool = False) -> Calls:
        """Other drivers are looked for in the same folder; so are half-written files."""
        calls = calls + Counter({"list _ledger": 1})
        for what in calls if swept else ():
            calls[what] += what.startswith("list ")
        # The beginning of a name is looked for in the whole folder.
        del calls["list ."], calls["list restyle-"]
        return calls

    def heard(self, event: str, details: tuple[object, ...]) -> None:
        path = details[1 if event == "os.rename" else 0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.fsdecode(path)
        name = os.path.relpath(path, self.out)
        if name.startswith("..") or (event != "os.scandir" and "/." in f"/{name}"):
            return
        if event == "os.scandir":
            self.seen.append(f"list {name}")
        elif event != "open" or _reads(path, *details[1:]):
            self.seen.append(f"{_DONE[event]} {_kind(name)}")


def _reads(path: str, mode: object, flags: object) -> bool:
    """Whether a file is opened to be read; the system's own call has flags in place of a mode."""
    if mode is not None:
        return mode in ("r", "rb")
    assert isinstance(flags, int)
    return flags & os.O_ACCMODE == os.O_RDONLY and not Path(path).is_dir()


_DONE = {"open": "read", "os.rename": "write", "os.remove": "delete", "os.scandir": "list"}
_disks: list[Disk] = []


@functools.cache
def hear() -> None:
    """Be told what is asked of the system from now on; a hook stays until the process ends."""

    def heard(event: str, details: tuple[object, ...]) -> None:
        if event in _DONE:
            for disk in _disks:
                disk.heard(event, details)

    sys.addaudithook(heard)


class Bucket:
    """Counts the requests that a server gets for what is below a prefix."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = "s3://bucket/out"
        self.seen: list[str] = []
        self._server = faulty_s3(monkeypatch)
        self._server.__enter__().rule = self._heard

    def close(self) -> None:
        self._server.__exit__(None, None, None)

    def counted(self) -> Calls:
        return _counted(self.seen)

    def expected(self, calls: Calls, *, swept: bool = False) -> Calls:
        """Other drivers are looked for by the beginning of their names; no object is half there."""
        return calls + Counter({"list _ledger/driver-": 1})

    def _heard(self, method: str, target: str) -> str:
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        if "list-type" in query:
            (prefix,) = query.get("prefix", [""])
            if prefix.startswith("out/"):
                self.seen.append(f"list {prefix.removeprefix('out/').rstrip('/') or '.'}")
        elif parts.path.startswith("/bucket/out/"):
            what = {"GET": "read", "PUT": "write", "DELETE": "delete", "HEAD": "size"}[method]
            self.seen.append(f"{what} {_kind(parts.path.removeprefix('/bucket/out/'))}")
        return ""


Store = Disk | Bucket


def _counted(seen: Sequence[str]) -> Calls:
    """Without the driver's claim, and without the rows that a report shows."""
    left_out = re.compile(r"(read|write|delete) _ledger/driver|(read|size) [a-z]+")
    return Counter(what for what in seen if not left_out.fullmatch(what))


def _kind(name: str) -> str:
    """A file of the ledger by what it is for, a file of rows by its dataset."""
    folder, _, file = name.rpartition("/")
    if folder == "_ledger":
        return f"_ledger/{re.split('[-.]', file)[0]}"
    return folder or file


@pytest.fixture(params=["disk", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    hear()
    made = Disk(tmp_path / "out") if request.param == "disk" else Bucket(monkeypatch)
    yield made
    made.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twenty pictures, one of which is none: three units."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        Image.new("RGB", (40, 40), (10 * index, 0, 0)).save(folder / f"{index:02d}.png")
    (folder / "00.png").write_bytes(b"text")
    return folder


@pytest.fixture
def run(store: Store, images: Path, tiny_model: Path) -> Callable[..., Calls]:
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=("l2",), dtype="fp32"
    )
    request = Request(
        str(images), store.out, settings, device="cpu", workers=Workers(executor="local")
    )

    def calls(execute: Execute = run_here) -> Calls:
        store.seen.clear()
        with contextlib.suppress(Interrupted):
            invert_images(request, Listener(), lambda: contextlib.nullcontext(execute))
        return store.counted()

    return calls


def stopped(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
    """Runs one unit; then Ctrl-C."""
    yield from run_here(job, units[:1])
    raise KeyboardInterrupt


def dropped() -> Execute:
    """Runs all units, and loses the result of the first."""
    lost = iter((True,))

    def execute(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        results = run_here(job, units)
        if next(lost, False):
            next(results)
        yield from results

    return execute


IDLE = """
list _ledger 1, list . 1, list latents 1, list steps 1, list reconstructions 1, list rejects 1,
read _ledger/settings 2, read _ledger/edit 1, read _ledger/plan 1, read _ledger/unit 3,
read run.json 2, write _ledger/run 1
"""

RUN = """
list _ledger 1, list latents 1, list steps 1, list reconstructions 1, list rejects 1,
read _ledger/settings 2, read _ledger/edit 1, read run.json 1,
write _ledger/run 2, write run.json 2, write report.html 1
"""
"""Besides what is read and written of each unit."""


def counted(written: str) -> Calls:
    """Figures that are written as ``list latents 1, ...``."""
    calls: Calls = Counter()
    for each in map(str.strip, written.split(",")):
        what, _, count = each.rpartition(" ")
        calls[what] = int(count)
    return calls


def units(done: int, of_rejects: int) -> Calls:
    """What workers ask for to do so many units, of which some have rejects."""
    once = "_ledger/unit", "_ledger/try", "latents", "steps", "reconstructions"
    calls = Counter({f"write {what}": done for what in once})
    # Both are looked for, and are not there.
    calls.update({"read _ledger/unit": done, "read _ledger/try": done})
    calls.update({"delete _ledger/try": done, "write rejects": of_rejects})
    return +calls


def test_an_idle_run_lists_everything_once(store: Store, run: Callable[..., Calls]) -> None:
    run()
    assert run() == store.expected(counted(IDLE))


def test_a_run_lists_the_ledger_once(store: Store, run: Callable[..., Calls]) -> None:
    """Planned and stopped before; what is committed then is read once."""
    run(stopped)
    expected = counted(RUN) + units(2, of_rejects=0)
    expected["read _ledger/unit"] += 1
    # Their files are looked for before anything is computed.
    expected += counted("list latents 1, list steps 1, list reconstructions 1, list rejects 1")
    expected["read run.json"] += 1
    # By the driver, and by the one worker.
    expected["read _ledger/plan"] += 2
    assert run() == store.expected(expected, swept=True)


def test_a_new_output_is_looked_at_once_more(
    store: Store, run: Callable[..., Calls], images: Path
) -> None:
    """Before the lock is asked for: its settings might be lost, or it might hold something else."""
    store.seen.clear()
    plan_only(InputPlan(str(images), store.out, InputOptions()), Listener())
    looked = "list _ledger 2, read _ledger/settings 1, read _ledger/edit 1, write _ledger/plan 1"
    looked += ", list restyle- 1"
    calls = store.counted()
    # The client of S3 lists the folder above one that is empty.
    assert calls.pop("list .", 0) <= 1
    assert calls == store.expected(counted(looked))
    expected = counted(RUN) + units(3, of_rejects=1)
    expected += counted("list _ledger 1, write _ledger/settings 1, read _ledger/plan 2")
    expected += counted("list restyle- 1")
    assert run() == store.expected(expected, swept=True)


@pytest.mark.parametrize("what", ["stopped", "result lost"])
def test_the_ledger_is_listed_again_only_where_a_receipt_may_be_missing(
    store: Store, run: Callable[..., Calls], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(rounds, "_BACK_OFF", (0.0, 0.0))
    run(stopped)
    is_stopped = what == "stopped"
    calls = run(stopped if is_stopped else dropped())
    expected = store.expected(counted("list _ledger 2"), swept=not is_stopped)
    assert calls["list _ledger"] == expected["list _ledger"]
