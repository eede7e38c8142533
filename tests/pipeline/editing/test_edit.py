"""Edits of a small inversion by the embedded model: what stands in the rows, and in how many."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from restyle.core import Model, decode_image, load_model
from restyle.core.editing.attributes import measure
from restyle.core.editing.directions import About, Direction
from restyle.core.editing.lookup import find_direction
from restyle.core.editing.paste_back import paste_back, soft_mask
from restyle.core.errors import FatalError, RejectReason, SpecError
from restyle.core.imaging.preprocessing import to_pictures
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.accounting.withdrawal import Withdrawn, withdraw
from restyle.pipeline.editing import edit as edit_module
from restyle.pipeline.editing import plan as edit_plan
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.editor import Editor
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.editing.settings import PasteBack
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.commit import write_unit
from restyle.pipeline.ledger.manifest import PlanReader, read_units
from restyle.pipeline.ledger.rejects import rejected_unit
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.results.face_rows import Selection, select_keys
from restyle.pipeline.results.query import query
from restyle.pipeline.storage.filesystem import open_storage
from tests.inverted import NAMES
from tests.pipeline import in_process

SMILE = Move("smile", (-2.0, 0.0, 2.0))


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("faces64", dtype="fp32", device="cpu")


@pytest.fixture
def request_of(inverted: Path, tmp_path: Path) -> Callable[..., EditRequest]:
    def make(*moves: Move, **options: object) -> EditRequest:
        where = {"out": str(inverted / "out"), "to": str(tmp_path / "edits"), "device": "cpu"}
        return EditRequest(moves=moves or (SMILE,), **(where | options))  # type: ignore[arg-type]

    return make


def rows_of(request: EditRequest) -> pd.DataFrame:
    table = pq.read_table(f"{request.to}/edits", use_threads=False).to_pandas()
    return table.sort_values(["source", "face", "edit"], ignore_index=True)


def latents_of(rows: pd.DataFrame) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows["latent"]).reshape(len(rows), -1, 512))


def originals(request: EditRequest) -> pd.DataFrame:
    table = pq.read_table(f"{request.out}/latents", use_threads=False).to_pandas()
    return table.sort_values(["source", "face"], ignore_index=True)


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.fixture(scope="module")
def smiles(inverted: Path, tmp_path_factory: pytest.TempPathFactory) -> EditRequest:
    """Every face with three strengths of smile, put back into its photograph."""
    request = EditRequest(
        out=str(inverted / "out"),
        to=str(tmp_path_factory.mktemp("smiles")),
        moves=(SMILE,),
        paste_back="face",
        device="cpu",
    )
    outcome = edit(request)
    assert (outcome.photographs, outcome.summary.faces) == (3, 3)
    return request


def problems_of(request: EditRequest) -> list[str]:
    return verify(request.to).problems


def test_every_face_has_every_edit(smiles: EditRequest) -> None:
    rows, before = rows_of(smiles), originals(smiles)
    assert rows["strength_smile"].tolist() == [-2, 0, 2] * 3
    assert rows["edit"].tolist() == [0, 1, 2] * 3
    for name in ("image_id", "revision", "face", "source"):
        assert rows[name].tolist() == before[name].repeat(3).tolist()
    direction = find_direction("smile", "faces64")
    step = torch.from_numpy(direction.vector) * direction.about.scale
    expected = latents_of(before)[:, None] + torch.tensor([-2.0, 0, 2]).view(1, 3, 1, 1) * step
    torch.testing.assert_close(latents_of(rows), expected.flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_images_and_scores_are_those_of_the_latents(smiles: EditRequest, model: Model) -> None:
    rows = rows_of(smiles)
    rendered = to_pictures(model.synthesize(latents_of(rows)))
    shown = [picture(data) for data in rows["image"]]
    for one, other in zip(rendered, shown, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    for name, values in measure(shown).items():
        np.testing.assert_allclose(rows[name].to_numpy(float), values, rtol=1e-6)
        change = values.reshape(3, 3) - values.reshape(3, 3)[:, 1:2]
        np.testing.assert_allclose(
            rows[f"{name}_change"].to_numpy(float), change.ravel(), atol=1e-6
        )
    identity = rows["id_similarity"].to_numpy().reshape(3, 3)
    np.testing.assert_allclose(identity[:, 1], 1, atol=1e-5)
    assert (identity[:, [0, 2]] < 0.999).all()


def test_photographs_change_inside_the_quad_alone(smiles: EditRequest, inverted: Path) -> None:
    rows, before = rows_of(smiles), originals(smiles)
    assert rows["photo_problem"].isna().all()
    for index, row in before.iterrows():
        photo = decode_image((inverted / "photos" / Path(row["source"]).name).read_bytes())
        pasted = picture(rows["photo"][3 * int(str(index))])
        mask = soft_mask(np.stack(row["quad"]).reshape(4, 2), (0, 0, *photo.size))
        changed = (np.asarray(pasted) != np.asarray(photo)).any(axis=-1)
        assert not changed[mask == 0].any()
        assert changed[mask == 1].mean() > 0.5


@pytest.mark.parametrize("how", ["face", "change"])
def test_all_faces_of_a_photograph_are_put_back(
    friends: Path, tmp_path: Path, model: Model, how: PasteBack
) -> None:
    request = EditRequest(
        out=str(friends / "out"), to=str(tmp_path), moves=(Move("smile", (-3.0, 3.0)),),
        score=False, paste_back=how, device="cpu",
    )  # fmt: skip
    assert edit(request).photographs == 1
    rows, before = rows_of(request), originals(request)
    count = len(before)
    assert count == 3
    assert rows["photo"].notna().tolist() == [True] * 2 + [False] * 2 * (count - 1)
    assert rows["photo_problem"].isna().all()
    photo = decode_image((friends / "photos" / "three-at-the-window.jpg").read_bytes())
    plain = to_pictures(model.synthesize(latents_of(before)))
    masks = [soft_mask(quad, (0, 0, *photo.size)) > 0 for quad in quads_of(before)]
    for number in range(2):
        found = np.asarray(picture(rows["photo"][number]))
        for face, quad in enumerate(quads_of(before)):
            others = np.any([mask for each, mask in enumerate(masks) if each != face], axis=0)
            edited = picture(rows["image"][2 * face + number])
            alone = paste_back(
                photo, edited, quad, original=plain[face] if how == "change" else None
            )
            assert (np.asarray(alone) != np.asarray(photo)).any()
            np.testing.assert_array_equal(found[~others], np.asarray(alone)[~others])
        nowhere = ~np.any(masks, axis=0)
        np.testing.assert_array_equal(found[nowhere], np.asarray(photo)[nowhere])


def quads_of(before: pd.DataFrame) -> np.ndarray:
    return np.stack(before["quad"]).reshape(-1, 4, 2)


@pytest.fixture(scope="module")
def friends(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A photograph with three faces, inverted."""
    folder = tmp_path_factory.mktemp("friends")
    (folder / "photos").mkdir()
    shutil.copy(photos / "three-at-the-window.jpg", folder / "photos")
    settings = InversionSettings(
        model="faces64", steps=1, metrics=(), dtype="fp32", faces="all", reconstructions="none"
    )
    request = Request(str(folder / "photos"), str(folder / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    return folder


def test_edits_can_be_asked_in_sql(smiles: EditRequest) -> None:
    rows = rows_of(smiles)
    asked = query(smiles.to, "select strength_smile, avg(id_similarity) i from edits group by 1")
    answer = asked.read_all().to_pandas().set_index("strength_smile").i
    expected = rows.groupby("strength_smile").id_similarity.mean()
    np.testing.assert_allclose(answer[expected.index], expected, rtol=1e-5)
    with pytest.raises(SpecError, match="cannot answer"):
        query(smiles.to, "select * from latents")


def test_the_summary_tells_what_the_rows_hold(smiles: EditRequest) -> None:
    outcome = edit(smiles)
    assert outcome.photographs == 0
    summary = outcome.summary
    rows = rows_of(smiles)
    assert summary.faces == 3
    assert summary.without_photo == 0
    assert summary.combinations == [(-2,), (0,), (2,)]
    by_edit = rows.groupby("edit")
    np.testing.assert_allclose(summary.identity, by_edit["id_similarity"].mean(), rtol=1e-6)
    np.testing.assert_allclose(summary.changes["smile"], by_edit["smile_change"].mean(), atol=1e-6)
    steady = summary.steadiness
    assert steady is not None
    scores = rows["smile"].to_numpy().reshape(3, 3)
    rising = [(row[0] < row[1] < row[2]) for row in scores if np.isfinite(row).all()]
    assert (steady.attribute, steady.faces) == ("smile", len(rising))
    assert steady.rising == pytest.approx(np.mean(rising))


def test_several_directions_give_every_combination(
    request_of: Callable[..., EditRequest], tmp_path: Path
) -> None:
    own = Direction.of(np.arange(512.0), About(name="own", kind="sefa", scale=1, layers=(1,)))
    moves = (Move(str(own.save(tmp_path)), (1.0, 2.0)), Move("pose", (-1.0, 1.0), (0, 1)))
    request = request_of(*moves, score=False, truncation=0.5)
    edit(request)
    rows, before = rows_of(request), latents_of(originals(request))
    assert rows["strength_own"].tolist() == [1, 1, 2, 2] * 3
    assert rows["strength_pose"].tolist() == [-1, 1, -1, 1] * 3
    assert "smile" not in rows
    average = load_model("faces64", device="cpu").latent_avg
    start = average + 0.5 * (before - average)
    moved = latents_of(rows).unflatten(0, (3, 4)) - start[:, None]
    assert moved[:, :, 2:].abs().max() < 1e-5
    pose = find_direction("pose", "faces64")
    step = torch.from_numpy(pose.vector) * pose.about.scale
    torch.testing.assert_close(moved[:, 1, 0], step[0].expand(3, -1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        moved[:, 3, 1],
        (step[1] + 2 * torch.from_numpy(own.vector)).expand(3, -1),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of one face, one after the other."""
    monkeypatch.setattr(edit_plan, "_MOST_FACES", 1)
    alone = tuple(replace(each, together=1) for each in edit_module.STAGES)
    monkeypatch.setattr(edit_module, "STAGES", alone)


@pytest.mark.usefixtures("one_by_one")
def test_an_interrupted_edit_continues(
    request_of: Callable[..., EditRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(score=False)
    made = Editor.__call__
    calls = []

    def second_is_interrupted(self: Editor, *faces: object) -> object:
        calls.append(faces)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(self, *faces)  # type: ignore[arg-type]

    monkeypatch.setattr(Editor, "__call__", second_is_interrupted)
    with pytest.raises(Interrupted, match="1 of 3 photographs are done"):
        edit(request)
    assert len(rows_of(request)) == 3
    assert problems_of(request) == ["2 inputs in 2 units are not done; run the same command again"]
    assert edit(request).photographs == 2
    assert edit(request).photographs == 0
    assert len(calls) == 4
    assert problems_of(request) == []
    rows = rows_of(request)
    whole = replace(request, to=f"{request.to}-whole")
    edit(whole)
    pd.testing.assert_frame_equal(rows, rows_of(whole))


def test_an_edit_that_made_nothing_is_not_known_to_the_inversion(
    request_of: Callable[..., EditRequest], inverted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(score=False)

    def fails(*_arguments: object) -> None:
        raise FatalError("no memory")

    def known() -> set[Path]:
        return set((inverted / "out" / "_ledger").glob("derived-*"))

    before = known()
    with monkeypatch.context() as patched:
        patched.setattr(Editor, "__call__", fails)
        with pytest.raises(FatalError, match="no memory"):
            edit(request)
    assert not Path(request.to).exists()
    assert known() == before
    edit(request)
    assert len(known() - before) == 1


@pytest.mark.usefixtures("one_by_one")
def test_a_compaction_of_the_inversion_meanwhile_changes_nothing(
    request_of: Callable[..., EditRequest],
    inverted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(inverted / "out", out)
    made = Editor.__call__

    def compacted_first(self: Editor, *faces: object) -> object:
        compact(str(out))
        return made(self, *faces)  # type: ignore[arg-type]

    monkeypatch.setattr(Editor, "__call__", compacted_first)
    request = request_of(score=False, out=str(out))
    edit(request)
    assert problems_of(request) == []
    assert rows_of(request)["edit"].tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize("damage", ["file", "row", "entry", "stray", "unit"])
def test_verify_finds_what_is_wrong(request_of: Callable[..., EditRequest], damage: str) -> None:
    request = request_of(score=False)
    edit(request)
    storage = open_storage(request.to)
    (files,) = ledger.read_file_sets(storage)
    (file,), (record,) = files.files, files.units
    path = Path(request.to) / file.name
    if damage == "file":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        expected = "not what was committed"
    elif damage == "row":
        rows = pq.read_table(path, use_threads=False)
        pq.write_table(rows.slice(0, rows.num_rows - 1), path)
        data = path.read_bytes()
        shorter = file.model_copy(
            update={
                "rows": rows.num_rows - 1,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
        ledger.commit(storage, record.model_copy(update={"files": (shorter,)}))
        expected = "does not have each of 3 edits once"
    elif damage == "entry":
        ledger.commit(storage, record.model_copy(update={"faces": 2}))
        expected = "the ledger counts"
    elif damage == "stray":
        shutil.copy(path, path.with_name("part-other.parquet"))
        expected = "belongs to no unit"
    else:
        ledger.remove(storage, files)
        expected = "3 inputs in 1 unit are not done"
    (problem,) = problems_of(request)
    assert expected in problem


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("reason", [RejectReason.CRASHED, RejectReason.TIMED_OUT])
@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_unit_that_was_given_up_is_tried_again(
    request_of: Callable[..., EditRequest], reason: RejectReason, is_compacted: bool
) -> None:
    request = request_of(score=False)
    edit(request)
    expected = rows_of(request)
    storage = open_storage(request.to)
    first, *others = ledger.read_file_sets(storage)
    (record,) = first.units
    for file in first.files:
        storage.delete(file.name)
    ledger.remove(storage, first)
    (ref,) = [unit for unit in read_units(storage) if unit.name == record.unit]
    planned = PlanReader(storage).read(ref)
    given_up = rejected_unit(planned, "edit", reason, "gone", record.fingerprint)
    write_unit(storage, given_up, record.fingerprint)
    if is_compacted:
        assert compact(request.to).units == len(others) == 2
    assert verify(request.to).problems == []

    other = [each for each in RejectReason if each != reason]
    assert withdraw(request.to, other) == Withdrawn(0, 0)
    assert withdraw(request.to, [reason]) == Withdrawn(1, record.images)
    again = edit(request)
    assert again.photographs == record.images
    assert verify(request.to).problems == []
    pd.testing.assert_frame_equal(rows_of(request), expected)
    assert not storage.sizes("rejects")


def test_what_was_selected_first_is_not_done_twice(request_of: Callable[..., EditRequest]) -> None:
    request = request_of(score=False)
    assert edit(replace(request, selection=Selection("*hat*"))).photographs == 1
    asked = [edit(replace(request, selection=Selection(limit=limit))) for limit in (1, 2, 3)]
    # One of these was asked for before.
    assert sorted(each.photographs for each in asked) == [0, 1, 1]
    assert problems_of(request) == []
    assert rows_of(request)["edit"].tolist() == [0, 1, 2] * 3
    with pytest.raises(SpecError, match="no face that was asked for"):
        edit(replace(request, selection=Selection("*cat*")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"moves": (Move("smile", (-1.0, 1.0)),)}, r"other settings \(directions\)"),
        ({"moves": (replace(SMILE, layers=(0,)),)}, r"other settings \(directions\)"),
        ({"truncation": 0.7}, r"other settings \(truncation\)"),
        ({"paste_back": "change"}, r"other settings \(paste_back\)"),
        ({"model": "faces64:single-pass-psp"}, r"other settings \(model, model_fingerprint\)"),
        ({"moves": (SMILE, SMILE)}, "given twice"),
        ({"moves": (Move("smile", (0.0,) * 1000), Move("pose", (0.0, 1.0)))}, "2000 combinations"),
        ({"moves": (Move("frown", (1.0,)),)}, "no direction 'frown'; it has age, pose, smile"),
        ({"moves": (replace(SMILE, layers=(10,)),)}, "styles, 0-9"),
        ({"out": "/no/such"}, "/no/such holds no output"),
    ],
)
def test_other_settings_are_refused(
    smiles: EditRequest, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    before = {path: path.read_bytes() for path in Path(smiles.to).rglob("*.parquet")}
    request = replace(smiles, **changes)  # type: ignore[arg-type]
    if "10" in words or "styles" in words:
        request = replace(request, to=str(tmp_path))
    with pytest.raises(SpecError, match=words):
        edit(request)
    assert {path: path.read_bytes() for path in Path(smiles.to).rglob("*.parquet")} == before


def test_edits_and_inversions_do_not_mix(smiles: EditRequest, inverted: Path) -> None:
    def files() -> dict[Path, int]:
        roots = (inverted / "out", Path(smiles.to))
        return {path: path.stat().st_mtime_ns for root in roots for path in root.rglob("*")}

    before = files()
    with pytest.raises(SpecError, match="holds an inversion; choose another --out"):
        edit(replace(smiles, to=smiles.out))
    with pytest.raises(SpecError, match="holds edits; choose another --out"):
        invert_images(Request(str(inverted / "photos"), smiles.to, InversionSettings()))
    with pytest.raises(SpecError, match="holds edits, which restyle status, verify and query take"):
        edit(replace(smiles, out=smiles.to))
    assert files() == before


def test_latents_that_are_gone_meanwhile_are_told_in_a_line(
    request_of: Callable[..., EditRequest],
    inverted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(inverted / "out", out)
    request = request_of(score=False, out=str(out))

    def interrupted(self: Editor, *_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as planned_only:
        planned_only.setattr(Editor, "__call__", interrupted)
        with pytest.raises(Interrupted):
            edit(request)
    (path,) = (out / "latents").iterdir()
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(FatalError, match=r"cannot read .*latents/part-.*restyle verify"):
        edit(request)
    path.write_bytes(whole)
    # Nothing depends on the settings yet, so that they may still be others.
    edit(replace(request, truncation=0.5))
    assert problems_of(request) == []
    with pytest.raises(SpecError, match=r"other settings \(truncation\)"):
        edit(request)


def test_a_photograph_that_is_gone_or_changed_is_told(inverted: Path, tmp_path: Path) -> None:
    moved = tmp_path / "photos"
    settings = InversionSettings(model="faces64", steps=1, metrics=(), dtype="fp32")
    shutil.copytree(inverted / "photos", moved)
    request = Request(str(moved), str(tmp_path / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    (moved / NAMES[0]).unlink()
    (moved / NAMES[1]).write_bytes(b"changed")
    asked = EditRequest(
        out=str(tmp_path / "out"), to=str(tmp_path / "edits"), moves=(Move("smile", (1.0,)),),
        score=False, paste_back="change", device="cpu",
    )  # fmt: skip
    edit(asked)
    rows = rows_of(asked)
    names = [Path(source).name for source in rows["source"]]
    problems = dict(zip(names, rows["photo_problem"].replace({np.nan: None}), strict=True))
    assert problems == {
        NAMES[0]: "No such file or directory",
        NAMES[1]: "the photograph was changed since it was inverted",
        NAMES[2]: None,
    }
    assert rows["photo"].isna().tolist() == [
        problems[Path(s).name] is not None for s in rows["source"]
    ]
    assert rows["image"].notna().all()


def test_the_newest_revision_counts(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40), (index * 80, 0, 0)).save(folder / f"{index}.png")
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=("l2",), dtype="fp32"
    )
    request = Request(str(folder), str(tmp_path / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    Image.new("RGB", (41, 41), "green").save(folder / "1.png")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    keys = select_keys(request.out, Selection())
    assert sorted(revision for _, revision, _ in keys) == [1, 1, 2]
    asked = EditRequest(
        out=request.out, to=str(tmp_path / "edits"), device="cpu", paste_back="face",
        moves=(Move(str(Direction.of(np.ones(32), About(name="x", kind="sefa", scale=1))
                        .save(tmp_path)), (1.0,)),),
    )  # fmt: skip
    with pytest.raises(SpecError, match="nothing to paste a face into"):
        edit(asked)
    edit(replace(asked, paste_back="none"))
    rows = rows_of(asked)
    assert sorted(rows["revision"]) == [1, 1, 2]
    # This tiny model says that it is for faces, which dlib does not find in what it renders.
    assert rows["smile"].isna().all()
