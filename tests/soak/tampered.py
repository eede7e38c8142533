"""Outputs that were tampered with: verify names it, and repair and a run lead back to clean.

``python -m tests.soak.tampered`` tries every case and prints how many; the tests of
``tests/pipeline/accounting`` try some.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from restyle.core.errors import RejectReason, RestyleError
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.repair import repair
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.results.query import query
from tests.pipeline.in_process import in_process
from tests.soak.full_disk import World, _edit, make_world

Tampering = Callable[[Path], None]
"""Changes an output; raises :class:`Pointless` where there is nothing to change."""


class Pointless(Exception):  # noqa: N818 (no error)
    """A case that this output does not have."""


@dataclass(frozen=True)
class Case:
    """One way to tamper with one output.

    Attributes:
        start: the output.
        name: what is done to which of its files.
        tamper: does it.
    """

    start: str
    name: str
    tamper: Tampering


KINDS = {
    "entry": "_ledger/unit-*.json",
    "pack": "_ledger/pack-*.json",
    "plan": "_ledger/plan-*.parquet",
    "settings": "_ledger/*settings.json",
    "latents": "latents/*",
    "steps": "steps/*",
    "reconstructions": "reconstructions/*",
    "rejects": "rejects/*",
    "edits": "edits/*",
}
DATASETS = ("latents", "steps", "reconstructions", "rejects", "edits")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    # Among the rows: in the middle of a small file is what nobody reads.
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)


def rename(path: Path) -> None:
    if path.name.startswith("plan-"):
        # Nothing would have changed, were it still a plan and in the same place of the order.
        path.rename(path.with_name("plan-first.parquet"))
    else:
        path.rename(to_another_name(path))


def link(path: Path) -> None:
    """Put what the file held outside, and a link to it in its place."""
    outside = path.parents[2] / "outside" / path.name
    shutil.copy(path, outside)
    path.unlink()
    path.symlink_to(outside)


def swap(path: Path, other: Path) -> None:
    one, two = path.read_bytes(), other.read_bytes()
    if one == two:
        raise Pointless
    path.write_bytes(two)
    other.write_bytes(one)


def to_another_name(path: Path) -> Path:
    """A name of the same form that is not taken."""
    if path.name.startswith("plan-"):
        return path.with_name("plan-000009.parquet")
    stem, dot, suffix = path.name.partition(".")
    return path.with_name(f"{stem[:-4]}beef{dot}{suffix}")


ALONE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "overwritten": lambda path: path.write_bytes(b"{}"),
    "linked": link,
    "renamed": lambda path: rename(path),
}
COPIED: dict[str, Callable[[Path], object]] = {
    "copied": lambda path: shutil.copy(path, to_another_name(path))
}
WITH_ANOTHER: dict[str, Callable[[Path, Path], object]] = {
    "copied over another": shutil.copy,
    "swapped": swap,
}


def alone(pattern: str, act: Callable[[Path], object], index: int) -> Tampering:
    def tamper(out: Path) -> None:
        found = sorted(out.glob(pattern))
        if index >= len(found):
            raise Pointless
        act(found[index])

    return tamper


def with_another(pattern: str, act: Callable[[Path, Path], object], index: int) -> Tampering:
    def tamper(out: Path) -> None:
        found = sorted(out.glob(pattern))
        if index + 1 >= len(found):
            raise Pointless
        act(found[index], found[index + 1])

    return tamper


def in_json(pattern: str, change: Callable[[dict[str, object]], object]) -> Tampering:
    def act(path: Path) -> None:
        record = json.loads(path.read_bytes())
        change(record)
        path.write_text(json.dumps(record))

    return alone(pattern, act, 0)


def file_named(name: str) -> Callable[[dict[str, object]], object]:
    def change(record: dict[str, object]) -> None:
        files = record["files"]
        assert isinstance(files, list)
        files[0]["name"] = name

    return change


def marker(names: object) -> Tampering:
    def tamper(out: Path) -> None:
        (out / "_ledger" / "compacting.json").write_text(json.dumps(names))

    return tamper


def folder_linked(dataset: str) -> Tampering:
    def tamper(out: Path) -> None:
        if not (out / dataset).is_dir():
            raise Pointless
        (out / dataset).rename(out.parent / "outside" / dataset)
        (out / dataset).symlink_to(out.parent / "outside" / dataset)

    return tamper


def special_cases() -> Iterator[tuple[str, Tampering]]:
    """What nobody does by accident."""
    for kind in ("entry", "pack"):
        pattern = KINDS[kind]
        for name in ("../victim", "/etc/victim", "_ledger/settings.json", "latents/../../victim"):
            yield f"{kind} names {name}", in_json(pattern, file_named(name))
        yield f"{kind} without files", in_json(pattern, lambda record: record.update(files=[]))
        yield f"{kind} has no units", in_json(pattern, lambda record: record.update(units=[]))
    for field, value in (
        ("faces", 99),
        ("images", 99),
        ("fingerprint", "0" * 64),
        ("unit", "../x"),
    ):
        change = {field: value}
        yield f"entry says {change}", in_json(KINDS["entry"], lambda r, c=change: r.update(c))
    yield "pack says it is later", in_json(KINDS["pack"], lambda r: r.update(pack="ab" * 8))
    yield "settings say 3 steps", in_json("_ledger/settings.json", lambda r: r.update(steps=3))
    yield (
        "settings say another truncation",
        in_json("_ledger/edit-settings.json", lambda r: r.update(truncation=0.25)),
    )
    for names in (["../victim"], ["latents/../../victim"], ["_ledger/settings.json"], 7):
        yield f"marker names {names}", marker(names)
    for dataset in DATASETS:
        yield f"{dataset} linked", folder_linked(dataset)


def cases(start: str) -> Iterator[Case]:
    """All cases of an output."""
    for kind, pattern in KINDS.items():
        for index in range(3):
            for name, act in {**ALONE, **COPIED}.items():
                if kind == "settings" and name == "copied":
                    continue
                yield Case(start, f"{kind} {index} {name}", alone(pattern, act, index))
            if kind == "settings":
                continue
            for name, pair in WITH_ANOTHER.items():
                yield Case(start, f"{kind} {index} {name}", with_another(pattern, pair, index))
    for name, tamper in special_cases():
        yield Case(start, name, tamper)


def make_outputs(folder: Path, model: Path) -> World:
    """Outputs of units alone, of packs, of several plans with a retry, and of edits."""
    world = make_world(folder, model)
    begun = world.folder / "begun"
    for name in ("revised", "packed"):
        shutil.copytree(begun, folder / name)
    # As many inputs as the first plan, and one of them tried again.
    extra = folder / "extra"
    extra.mkdir()
    for index in range(4):
        Image.new("RGB", (40, 40), (0, 9 * index, 0)).save(extra / f"{index}.png")
    for name in ("revised", "packed"):
        invert_images(world.request("extra", folder / name), engine=in_process)
    retry = Retry(str(folder / "revised"), (RejectReason.NOT_AN_IMAGE,), device="cpu")
    retry_rejects(retry, engine=in_process)
    sizes = [path.stat().st_size for path in (folder / "packed").glob("*/part-*")]
    compact(str(folder / "packed"), target=2 * max(sizes) + 1)
    from restyle.pipeline.editing.edit import edit

    edit(world.edits(folder / "edits"))
    return world


def run(world: World, start: str, out: Path) -> None:
    """What made an output, again."""
    scratch = World(world.folder, world.model, out)
    if start == "edits":
        _edit(scratch)
        return
    _invert_from(scratch, "images")
    if start in ("revised", "packed"):
        _invert_from(scratch, "extra")


def _invert_from(world: World, images: str) -> None:
    invert_images(world.request(images, world.scratch), engine=in_process)


def holds(out: Path) -> dict[str, set[tuple[object, ...]]]:
    """What stands now: faces and rejects, or edits, each once."""
    found: dict[str, set[tuple[object, ...]]] = {}
    for dataset in ("latents", "rejects", "edits"):
        if not list((out / dataset).glob("*.parquet")):
            continue
        wanted = [*["image_id"], *(["face"] if dataset != "rejects" else [])]
        wanted += ["edit"] if dataset == "edits" else []
        names = [*wanted, "revision"]
        table = pq.read_table(out / dataset, columns=names, use_threads=False)
        rows = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
        if len(set(rows)) < len(rows):
            found["twice"] = set(Counter(rows).most_common(1))
        found[dataset] = {row[:-1] for row in rows}
    return found


def tree(folder: Path) -> dict[Path, bytes | str]:
    """Every file below a folder with its content, and every link with its target."""
    return {
        path: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def check(world: World, case: Case, folder: Path) -> list[str]:
    """What is wrong with how a case ends.

    Raises:
        Pointless: the output has no such file.
    """
    out, outside = folder / "out", folder / "outside"
    for path in (out, outside):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(world.folder / case.start, out)
    outside.mkdir()
    (folder / "victim").write_bytes(b"precious")
    expected = holds(out)
    case.tamper(out)
    before, beyond = tree(out), tree(outside)
    problems = []
    try:
        if not verify(str(out)).problems:
            problems.append("verify finds nothing")
    except RestyleError as error:
        if "\n" in str(error):
            problems.append(f"verify takes several lines: {error}")
    dataset = "edits" if case.start == "edits" else "latents"
    is_ledger = case.name.partition(" ")[0] in ("entry", "pack", "plan", "marker", "settings")
    with contextlib.suppress(RestyleError):
        key = "image_id, face, edit" if dataset == "edits" else "image_id, face"
        sql = f"select count(*), count(distinct ({key})) from {dataset}"  # noqa: S608
        ((count,), (different,)) = (
            column.to_pylist() for column in query(str(out), sql).read_all()
        )
        if is_ledger and count != different:
            problems.append(f"query finds {count} rows, {different} of them different")
    repair(str(out), apply=False)
    if tree(out) != before:
        problems.append("what was only to be said was done")
    # A user who does not ask verify first.
    with contextlib.suppress(RestyleError):
        run(world, case.start, out)
    repair(str(out), apply=True)
    run(world, case.start, out)
    problems += verify(str(out)).problems
    if (left := repair(str(out), apply=False)).done or left.left:
        problems.append(f"not repaired: {[*left.done, *left.left]}")
    if holds(out) != expected:
        problems.append("other faces or rejects than before")
    if tree(outside) != beyond or (folder / "victim").read_bytes() != b"precious":
        problems.append("something outside was touched")
    return problems


STARTS = ("begun", "revised", "packed", "edits")


def main() -> int:
    """Try every case."""
    from tests.tiny_model import make_tiny_model

    bad = total = 0
    with tempfile.TemporaryDirectory() as name:
        model = make_tiny_model(Path(name) / "tiny")
        for folder in ("world", "case"):
            (Path(name) / folder).mkdir()
        world = make_outputs(Path(name) / "world", model)
        for start in STARTS:
            began, tried = time.monotonic(), 0
            for case in cases(start):
                try:
                    problems = check(world, case, Path(name) / "case")
                except Pointless:
                    continue
                except RestyleError as error:
                    problems = [f"{type(error).__name__}: {error}"]
                tried += 1
                if problems:
                    bad += 1
                    print(f"{start}: {case.name}: {problems}", flush=True)
            total += tried
            print(f"{start}: {tried} cases, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{total} tampered outputs, {bad} bad")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
