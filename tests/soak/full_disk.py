"""The disk is full at every single write of a command; after making room, the same ends clean.

``python -m tests.soak.full_disk`` tries every write of every command and prints how many; the tests
of ``tests/faults`` try some.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from restyle.core.errors import RejectReason, RestyleError
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from tests.pipeline.in_process import in_process
from tests.soak.failing_disk import failing_disk

IMAGES = 10
ADDED = 9


@dataclass(frozen=True)
class World:
    """Photographs and outputs to start from; ``scratch`` is made anew for each case.

    Attributes:
        folder: holds ``images``, ``more`` (the same and others), and one output for each command.
        model: a small one.
        scratch: where a command works.
    """

    folder: Path
    model: Path
    scratch: Path

    def request(self, images: str, out: Path) -> Request:
        settings = InversionSettings(
            model=str(self.model), steps=1, align=False, metrics=(), dtype="fp32"
        )
        return Request(str(self.folder / images), str(out), settings, device="cpu")

    def edits(self, out: Path) -> EditRequest:
        request = EditRequest(
            str(self.folder / "edited"), str(out), (Move("smile", (-1.0, 1.0)),), device="cpu"
        )
        return replace(request, score=False)


def make_world(folder: Path, model: Path) -> World:
    """Photographs; an output of them; one with rejects, and one of a few faces for edits."""
    world = World(folder, model, folder / "scratch")
    for name, count in (("images", IMAGES), ("more", IMAGES + ADDED)):
        (folder / name).mkdir()
        for index in range(count):
            Image.new("RGB", (40, 40), (9 * index, 0, 0)).save(folder / name / f"{index:02d}.png")
        (folder / name / "x.png").write_bytes(b"text")
    invert_images(world.request("images", folder / "begun"), engine=in_process)
    faces = replace(world.request("images", folder / "edited"), settings=_embedded(), limit=3)
    invert_images(faces, engine=in_process)
    return world


def _embedded() -> InversionSettings:
    return InversionSettings(model="faces64", steps=1, align=False, metrics=(), dtype="fp32")


def _invert(world: World) -> None:
    invert_images(world.request("images", world.scratch), engine=in_process)


def _invert_more(world: World) -> None:
    # An output knows its inputs by their addresses: these are others of the same content.
    invert_images(world.request("more", world.scratch), engine=in_process)


def _invert_growing(world: World) -> None:
    invert_images(world.request("growing", world.scratch), engine=in_process)


def _grow(world: World) -> None:
    for path in (world.folder / "more").iterdir():
        # Those that are there already must not change.
        if not (world.folder / "growing" / path.name).exists():
            shutil.copy2(path, world.folder / "growing")


def _retry(world: World) -> None:
    retry = Retry(str(world.scratch), (RejectReason.NOT_AN_IMAGE,), device="cpu")
    retry_rejects(retry, engine=in_process)


def _compact(world: World) -> None:
    compact(str(world.scratch))


def _edit(world: World) -> None:
    edit(world.edits(world.scratch))


@dataclass(frozen=True)
class Command:
    """What is run on which output.

    Attributes:
        run: runs it in ``scratch``.
        start: the output that it begins with; empty for none.
        dataset: whose rows are counted.
        rows: there are in the end.
        meanwhile: what happens before it is run again.
    """

    run: Callable[[World], None]
    start: str
    dataset: str
    rows: int
    meanwhile: Callable[[World], None] = lambda _: None


COMMANDS = {
    "invert": Command(_invert, "", "latents", IMAGES),
    "invert more": Command(_invert_more, "begun", "latents", IMAGES + IMAGES + ADDED),
    # Other units than before would be planned of these, were the manifest lost.
    "invert growing": Command(_invert_growing, "", "latents", IMAGES + ADDED, _grow),
    "retry-rejects": Command(_retry, "begun", "latents", IMAGES),
    "compact": Command(_compact, "begun", "latents", IMAGES),
    "edit": Command(_edit, "", "edits", 3 * 2),
}


def begin(world: World, command: Command) -> None:
    """Put the output there that a command begins with."""
    shutil.rmtree(world.scratch, ignore_errors=True)
    if command.start:
        shutil.copytree(world.folder / command.start, world.scratch)
    shutil.rmtree(world.folder / "growing", ignore_errors=True)
    shutil.copytree(world.folder / "images", world.folder / "growing")


def writes_of(world: World, command: Command) -> int:
    """How often a command writes."""
    begin(world, command)
    with failing_disk(world.scratch) as disk:
        command.run(world)
    return disk.writes


def check(world: World, command: Command, fails: int, *, stays: bool) -> list[str]:
    """Fail one write, or all from it on; make room and run the same again; what is wrong then."""
    begin(world, command)
    with failing_disk(world.scratch, fails, stays=stays) as disk, contextlib.suppress(RestyleError):
        command.run(world)
    if not disk.failed:
        return [f"only {disk.writes} writes"]
    command.meanwhile(world)
    command.run(world)
    problems = list(verify(str(world.scratch)).problems)
    keys = ["image_id", "revision", "face", *(["edit"] if command.dataset == "edits" else [])]
    table = pq.read_table(world.scratch / command.dataset, columns=keys, use_threads=False)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    if len(set(rows)) != len(rows) or len(rows) != command.rows:
        problems.append(f"{len(rows)} rows, {len(set(rows))} of them different")
    problems += [f"{path} is left" for path in world.scratch.rglob(".*")]
    return problems


def main() -> int:
    """Try every write."""
    from tests.tiny_model import make_tiny_model

    failures = 0
    with tempfile.TemporaryDirectory() as name:
        model = make_tiny_model(Path(name) / "tiny")
        (Path(name) / "world").mkdir()
        world = make_world(Path(name) / "world", model)
        for what, command in COMMANDS.items():
            began = time.monotonic()
            count = writes_of(world, command)
            bad = 0
            for stays in (False, True):
                for fails in range(1, count + 1):
                    problems = check(world, command, fails, stays=stays)
                    if problems:
                        bad += 1
                        print(f"{what}: write {fails}{' and later' * stays}: {problems}")
            failures += bad
            seconds = time.monotonic() - began
            print(f"{what}: {count} writes, {2 * count} cases, {bad} bad, {seconds:.0f} s")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
