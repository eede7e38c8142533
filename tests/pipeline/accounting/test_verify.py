"""``verify`` finds every kind of damage that one can think of."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from restyle.core.errors import FatalError, RejectReason, SpecError
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from tests.pipeline.in_process import in_process

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An output of ten images and a reject, in two units."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "images").mkdir()
    for index in range(10):
        Image.new("RGB", (40, 40), (25 * index, 0, 0)).save(folder / "images" / f"{index}.png")
    (folder / "images" / "x.jpg").write_bytes(b"text")
    settings = InversionSettings(
        model=str(tiny_model), steps=2, align=False, metrics=(), reconstructions="all", dtype="fp32"
    )
    invert_images(
        Request(str(folder / "images"), str(folder / "out"), settings, device="cpu"),
        engine=in_process,
    )
    return folder / "out"


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "out"))


def first(out: Path, dataset: str) -> Path:
    return sorted((out / dataset).iterdir())[0]


def replace(path: Path, table: pa.Table) -> None:
    """Write other rows and make the ledger vouch for them, as a bug in the sink would."""
    pq.write_table(table, path)
    data = path.read_bytes()
    for entry in (path.parents[1] / "_ledger").glob("unit-*.json"):
        record = json.loads(entry.read_bytes())
        for file in record["files"]:
            if file["name"] == f"{path.parent.name}/{path.name}":
                digest = hashlib.sha256(data).hexdigest()
                file.update(rows=table.num_rows, size=len(data), sha256=digest)
        entry.write_text(json.dumps(record))


def rewrite(dataset: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(out: Path) -> None:
        path = first(out, dataset)
        replace(path, change(pq.read_table(path)))

    return damage


def flip_a_byte(out: Path) -> None:
    path = first(out, "latents")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def reject_what_has_a_face(out: Path) -> None:
    # The rejected text file sorts last, and so is in the last unit.
    row = pq.read_table(sorted((out / "latents").iterdir())[-1]).slice(0, 1)
    path = first(out, "rejects")
    rejects = pq.read_table(path)
    made = pa.table(
        [row["image_id"], row["revision"], row["source"], ["align"], ["empty"], ["?"]],
        schema=rejects.schema,
    )
    replace(path, pa.concat_tables([rejects, made]))


def not_finite(table: pa.Table) -> pa.Table:
    values = table["latent"].combine_chunks()
    flat = values.flatten().to_numpy().copy()
    flat[3] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=values.type)
    position = table.schema.get_field_index("latent")
    return table.set_column(position, table.schema.field("latent"), column)


def stray(out: Path) -> None:
    shutil.copy(first(out, "latents"), out / "latents" / "part-000009-old.parquet")


def other_fingerprint(out: Path) -> None:
    entry = next((out / "_ledger").glob("unit-*.json"))
    record = json.loads(entry.read_bytes())
    record["fingerprint"] = "0" * 64
    entry.write_text(json.dumps(record))


def wrong_count(out: Path) -> None:
    entry = next((out / "_ledger").glob("unit-*.json"))
    record = json.loads(entry.read_bytes())
    record["faces"] += 1
    entry.write_text(json.dumps(record))


def plan_twice(out: Path) -> None:
    shutil.copy(out / "_ledger" / "plan-000000.parquet", out / "_ledger" / "plan-000001.parquet")


def doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


def renamed(table: pa.Table) -> pa.Table:
    ids = ["0" * 32, *table["image_id"].to_pylist()[1:]]
    return table.set_column(0, table.schema.field(0), pa.array(ids))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing file": (lambda out: first(out, "steps").unlink(), "is missing"),
    "flipped byte": (flip_a_byte, "not what was committed"),
    "lost face": (rewrite("latents", lambda t: t.slice(1)), "in neither latents nor rejects"),
    "doubled face": (rewrite("latents", doubled), "is 2 times in latents"),
    "doubled reject": (rewrite("rejects", doubled), "is 2 times in rejects"),
    "face and reject": (reject_what_has_a_face, "in both latents and rejects"),
    "lost step": (rewrite("steps", lambda t: t.slice(1)), "steps does not hold"),
    "doubled image": (rewrite("reconstructions", doubled), "reconstructions does not hold"),
    "lost column": (rewrite("latents", lambda t: t.drop_columns(["quad"])), "other columns"),
    "not finite": (rewrite("latents", not_finite), "not finite"),
    "foreign input": (rewrite("latents", renamed), "not one of this unit"),
    "no parquet": (lambda out: replace_bytes(first(out, "latents")), "cannot be read"),
    "stray file": (stray, "belongs to no unit"),
    "other settings": (other_fingerprint, "with other settings"),
    "wrong count": (wrong_count, "the ledger counts"),
    "lost entry": (lambda out: next((out / "_ledger").glob("unit-*")).unlink(), "are not done"),
    "planned twice": (plan_twice, "is planned twice"),
    "unit planned twice": (plan_twice, "2 times in the manifest"),
    "lost plan": (
        lambda out: (out / "_ledger" / "plan-000000.parquet").unlink(),
        "not in the manifest",
    ),
}


def replace_bytes(path: Path) -> None:
    table = pq.read_table(path)
    replace(path, table)
    data = b"no parquet at all"
    path.write_bytes(data)
    for entry in (path.parents[1] / "_ledger").glob("unit-*.json"):
        record = json.loads(entry.read_bytes())
        for file in record["files"]:
            if file["name"].endswith(path.name) and file["name"].startswith("latents"):
                file.update(sha256=hashlib.sha256(data).hexdigest())
        entry.write_text(json.dumps(record))


def test_a_sound_output_is_clean(sound: Path) -> None:
    verification = verify(str(sound))
    assert verification.problems == []
    assert (verification.units, verification.images, verification.faces, verification.rejects) == (
        2,
        11,
        10,
        1,
    )
    assert verification.size == sum(path.stat().st_size for path in sound.rglob("part-*.parquet"))


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_damage_is_found(out: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(out)
    problems = verify(str(out)).problems
    assert any(words in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


def test_faces_that_stopped_early_are_accounted_for(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40), (80 * index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    settings = InversionSettings(
        model=str(tiny_model), steps=3, align=False, metrics=("l2",), dtype="fp32", tolerance=2.0
    )
    out = tmp_path / "out"
    invert_images(
        Request(str(tmp_path / "images"), str(out), settings, device="cpu"), engine=in_process
    )
    assert pq.read_table(out / "latents").column("steps").to_pylist() == [1, 1, 1]
    assert verify(str(out)).problems == []

    def one_more(table: pa.Table) -> pa.Table:
        steps = pa.array([4] * len(table), pa.int16())
        return table.set_column(table.column_names.index("steps"), table.field("steps"), steps)

    rewrite("latents", one_more)(out)
    assert any("another number of steps" in each for each in verify(str(out)).problems)


def test_a_damaged_entry_is_fatal(out: Path) -> None:
    next((out / "_ledger").glob("unit-*")).write_bytes(b"{")
    with pytest.raises(FatalError, match="delete it to have its unit run again"):
        verify(str(out))


def test_a_folder_that_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no output of restyle"):
        verify(str(tmp_path))


@pytest.fixture(scope="module")
def revised(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """One image changed twice, a reject tried again in vain, and one that has a face now."""
    folder = tmp_path_factory.mktemp("revised")
    images = folder / "images"
    images.mkdir()
    for index in range(5):
        Image.new("RGB", (40, 40), (25 * index, 0, 0)).save(images / f"{index}.png")
    for name in ("x.png", "y.png"):
        (images / name).write_bytes(b"text")
    settings = InversionSettings(
        model=str(tiny_model), steps=2, align=False, metrics=(), dtype="fp32"
    )
    request = Request(str(images), str(folder / "out"), settings, device="cpu")
    invert_images(request, engine=in_process)
    for colour in ("red", "green"):
        Image.new("RGB", (48, 48 + len(colour)), colour).save(images / "3.png")
        invert_images(request, engine=in_process)
    Image.new("RGB", (40, 40), "blue").save(images / "x.png")
    retry = Retry(str(folder / "out"), (RejectReason.NOT_AN_IMAGE,), device="cpu")
    retry_rejects(retry, engine=in_process)
    return folder / "out"


def with_rows(out: Path, dataset: str, revision: int) -> Path:
    """The file that holds rows of a revision."""
    for path in sorted((out / dataset).iterdir()):
        if revision in pq.read_table(path)["revision"].to_pylist():
            return path
    raise AssertionError(f"no rows of revision {revision} in {dataset}")


def without(dataset: str, revision: int) -> Damage:
    def damage(out: Path) -> None:
        path = with_rows(out, dataset, revision)
        table = pq.read_table(path)
        # The rest of a unit stays, so that only these rows are missed.
        replace(path, table.filter(pc.not_equal(table["revision"], revision)))

    return damage


def other_revision(dataset: str, revision: int, then: int) -> Damage:
    def damage(out: Path) -> None:
        path = with_rows(out, dataset, revision)
        table = pq.read_table(path)
        changed = pa.array([then] * table.num_rows, pa.int16())
        position = table.schema.get_field_index("revision")
        replace(path, table.set_column(position, table.schema.field("revision"), changed))

    return damage


def first_revision_of_3(out: Path) -> None:
    path = with_rows(out, "latents", 1)
    table = pq.read_table(path)
    is_3 = pc.match_substring(table["source"], "3.png")
    assert pc.any(is_3).as_py()
    replace(path, table.filter(pc.invert(is_3)))


def wrong_dropped(out: Path) -> None:
    entries = [
        entry
        for entry in (out / "_ledger").glob("unit-*.json")
        if json.loads(entry.read_bytes())["dropped"]
    ]
    record = json.loads(entries[0].read_bytes())
    record["dropped"] -= 1
    entries[0].write_text(json.dumps(record))


def old_generation(out: Path) -> None:
    path = first(out, "rejects")
    shutil.copy(path, path.with_name(path.stem + "-7.parquet"))


REVISION_DAMAGES: dict[str, tuple[Damage, str]] = {
    "lost changed row": (without("latents", 3), "(revision 3) is in neither"),
    "lost middle row": (without("latents", 2), "the ledger counts"),
    "lost first row": (first_revision_of_3, "the ledger counts"),
    "lost second reject": (without("rejects", 2), "(revision 2) is in neither"),
    "renumbered face": (other_revision("latents", 3, 4), "(revision 4) is not one of this unit"),
    "renumbered reject": (other_revision("rejects", 2, 1), "(revision 1) is not one of this unit"),
    "renumbered steps": (other_revision("steps", 3, 2), "steps does not hold"),
    "lost plan between": (
        lambda out: (out / "_ledger" / "plan-000001.parquet").unlink(),
        "is planned, but 2 is not",
    ),
    "wrong number dropped": (wrong_dropped, "the ledger counts"),
    "left over generation": (old_generation, "belongs to no unit"),
    "lost retry": (
        lambda out: sorted((out / "_ledger").glob("unit-*"))[-1].unlink(),
        "is in neither",
    ),
}


def test_revisions_are_accounted_for(revised: Path) -> None:
    verification = verify(str(revised))
    assert verification.problems == []
    # Five inputs and two more revisions of one, and two that were rejected and tried again.
    assert (verification.units, verification.images, verification.faces, verification.rejects) == (
        4,
        9,
        8,
        1,
    )


@pytest.mark.parametrize("name", sorted(REVISION_DAMAGES))
def test_damage_of_revisions_is_found(revised: Path, tmp_path: Path, name: str) -> None:
    out = Path(shutil.copytree(revised, tmp_path / "out"))
    damage, words = REVISION_DAMAGES[name]
    damage(out)
    problems = verify(str(out)).problems
    assert any(words in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)
