"""A job that runs as its user runs it, and its workers, for tests that take some of them away."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from restyle.pipeline.accounting.verify import verify
from tests.command import start

Kind = Literal["child", "align", "invert", "edit"]

# What stands in the command lines of processes; the workers' are set by Ray.
_MARKS: dict[Kind, str] = {
    "child": "restyle.pipeline.decoding.child",
    "align": "AlignStage",
    "invert": "InvertStage",
    "edit": "EditStage",
}

PATIENCE = 300.0
"""Seconds without what is waited for, after which a test fails; far more than any takes."""


class RunningJob:
    """``restyle invert`` or ``edit`` in a process of its own. Used as a context, which ends it.

    Args:
        command: its arguments; ``--out`` or ``--to`` is among them.
        cluster: finds the processes of the cluster that it runs on; its own descendants when None.
        env: variables to set beside those of this process.
    """

    def __init__(
        self,
        command: Iterable[object],
        cluster: Callable[[], Iterable[psutil.Process]] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        arguments = list(command)
        option = "--out" if "--out" in arguments else "--to"
        self.out = Path(str(arguments[arguments.index(option) + 1]))
        self.process: subprocess.Popen[str] = start(*arguments, env=env)
        self._cluster = cluster or self._descendants

    def __enter__(self) -> RunningJob:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            # So that it ends its own cluster.
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.communicate(timeout=30)
        self.process.kill()
        self.process.communicate()

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self, kind: Kind) -> list[psutil.Process]:
        """The living workers of a kind, in the order of their start."""
        found = []
        for process in self._cluster():
            with contextlib.suppress(psutil.Error):
                if _MARKS[kind] in " ".join(process.cmdline()):
                    found.append((process.create_time(), process.pid, process))
        return [process for _, _, process in sorted(found, key=lambda each: each[:2])]

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: the job ended before, or it takes too long.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None:
                _, error = self.process.communicate()
                raise AssertionError(f"the job ended before {what}: {error}")
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.02)

    def busy(self, kind: Kind) -> psutil.Process:
        """Wait for a worker of a kind that computes, and return it."""
        spent: dict[int, float] = {}
        found: list[psutil.Process] = []

        def computes() -> bool:
            for process in self.workers(kind):
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    now = times.user + times.system
                    if now - spent.setdefault(process.pid, now) >= 0.05:
                        found.append(process)
            return bool(found)

        self.wait_for(computes, f"a busy {kind} worker")
        return found[0]

    def end(self) -> tuple[int, str, str]:
        """Wait for the job's end; exit code, standard output and standard error."""
        out, error = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, error


def entries(out: Path, besides: Container[str] = ()) -> dict[str, int]:
    """The ledger's entries of units, with the times at which they were written.

    Args:
        out: the output.
        besides: names of entries to leave out.
    """
    found = {}
    for path in out.glob("_ledger/unit-*.json"):
        if path.name not in besides:
            with contextlib.suppress(FileNotFoundError):
                found[path.name] = path.stat().st_mtime_ns
    return found


def tries(out: Path) -> dict[str, int]:
    """How often each unit that is not yet committed was begun, by the unit's name."""
    found = {}
    for path in out.glob("_ledger/try-*.json"):
        with contextlib.suppress(FileNotFoundError, ValueError):
            found[path.stem.removeprefix("try-")] = json.loads(path.read_bytes())["tries"]
    return found


def make_images(folder: Path, count: int, *, side: int = 64) -> None:
    """Write pictures, all with the same content but each an input of its own."""
    folder.mkdir(parents=True)
    first = folder / "00000.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((side, side)).save(first)
    for index in range(1, count):
        (folder / f"{index:05d}.png").hardlink_to(first)


def check_complete(out: Path, images: int) -> None:
    """Assert that every image stands once in the latents and that ``verify`` has no objection."""
    assert verify(str(out)).problems == []
    latents = pd.read_parquet(out / "latents", columns=["image_id"])
    assert len(latents) == latents.image_id.nunique() == images
    assert not (out / "rejects").exists()
    assert list(leftovers(out)) == []


def leftovers(out: Path) -> Iterator[Path]:
    """Files that a finished job must not leave."""
    yield from out.rglob(".*.tmp")
    yield from out.glob("_ledger/try-*")
    yield from out.glob("_ledger/driver-*")
