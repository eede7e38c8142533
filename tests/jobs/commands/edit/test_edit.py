"""``restyle edit``: its options and what it prints."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from restyle.core.editing.directions import About, Direction, read_direction
from restyle.core.errors import RestyleError
from restyle.jobs.cli import app
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.pictures.edited_files import file_base
from tests.pipeline import in_process


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["edit", *map(str, arguments)])
    if isinstance(result.exception, RestyleError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("inverted")
    (folder / "images").mkdir()
    for index in range(2):
        Image.new("RGB", (40, 40), (index * 80, 0, 0)).save(folder / "images" / f"{index}.png")
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=(), dtype="fp32"
    )
    request = Request(str(folder / "images"), str(folder / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    return folder / "out"


def direction(folder: Path, name: str) -> Path:
    vector = np.random.default_rng(len(name)).normal(size=32)
    return Direction.of(vector, About(name=name, kind="sefa", scale=1)).save(folder)


def test_a_range_for_all_directions_or_one_for_each(out: Path, tmp_path: Path) -> None:
    a, b = direction(tmp_path, "a"), direction(tmp_path, "bb")
    common = (out, "--direction", a, "--direction", b, "--no-score")
    said = run(*common, "--strength", "-1..1/3", "--to", tmp_path / "nine")
    assert "2 faces, 9 edits each; 2 photographs in this run" in said
    rows = [line.split()[:2] for line in said.splitlines()[2:]]
    assert rows[0] == ["-1", "-1"]
    assert rows[8] == ["+1", "+1"]
    run(*common, "--strength", "-3", "--strength", "0,2", "--layers", "0-1", "--layers", "all",
        "--to", tmp_path / "two")  # fmt: skip
    table = pq.read_table(tmp_path / "two" / "edits", use_threads=False)
    assert table["strength_a"].to_pylist() == [-3] * 4
    assert table["strength_bb"].to_pylist() == [0, 2, 0, 2]
    latents = np.array(table["latent"].to_pylist()).reshape(4, -1, 32)
    moved = np.abs(latents[1] - latents[0]).max(axis=1) > 1e-4
    assert moved.all()
    again = run(*common, "--strength", "-3", "--strength", "0,2", "--layers", "0-1", "--layers",
                "all", "--to", tmp_path / "two")  # fmt: skip
    assert "0 photographs in this run" in again
    state = CliRunner().invoke(app, ["status", str(tmp_path / "two")]).stdout
    assert "2 of 2 accounted for" in state
    assert "faces       2, 2 edits each" in state
    # The same table as at the end of the run.
    assert state.splitlines()[-3:] == again.splitlines()[-3:]
    proof = CliRunner().invoke(app, ["verify", str(tmp_path / "two")])
    assert (proof.exit_code, proof.stdout.splitlines()[-1]) == (0, "clean")


def test_a_strength_beyond_the_reliable_range_is_noted_once(
    out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = direction(tmp_path, "a")
    read_direction(path).described(reliable=(-2, 1)).save(tmp_path)

    def lines(strength: str) -> list[str]:
        run(out, "--direction", path, "--strength", strength, "--no-score",
            "--out", tmp_path / strength)  # fmt: skip
        return [line for line in capfd.readouterr().err.splitlines() if "reliable" in line]

    assert lines("-2,0,1") == []
    (line,) = lines("-2,1.5")
    assert "a is reliable from -2 to 1: faces may smear or change in other ways at" in line
    assert line.endswith(" at strength 1.5")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--keep-detail"], "give --paste-back, too"),
        (["--strength", "1..2"], "strength '1..2'"),
        (["--strength", "1", "--strength", "2"], "--strength is given 2 times for 1 direction;"),
        (["--layers", "x"], "layers 'x'"),
        (["--invert-actors", "3:1"], "--invert-actors: should be MIN:MAX"),
        (["--device", "tpu"], "--device: should be auto"),
        ([], "/no/such holds no output"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(RestyleError, match=words):
        run("/no/such", "--direction", "smile", "--to", tmp_path / "edits", *arguments)
    assert not (tmp_path / "edits").exists()


def test_pictures_are_written_as_files(out: Path, tmp_path: Path) -> None:
    a = direction(tmp_path, "a")
    said = run(out, "--direction", a, "--no-score", "--strength", "-1,2",
               "--out", tmp_path / "edits", "--pictures", tmp_path / "files")  # fmt: skip
    assert f"4 pictures in {tmp_path / 'files'}" in said
    names = {path.name for path in (tmp_path / "files").glob("*.png")}
    assert names == {"0 a-1.png", "0 a+2.png", "1 a-1.png", "1 a+2.png"}
    table = pq.read_table(tmp_path / "edits" / "edits", use_threads=False)
    row = table.filter(pc.equal(table["strength_a"], 2)).slice(1, 1).to_pylist()[0]
    stem = Path(row["source"]).stem
    assert (tmp_path / "files" / f"{stem} a+2.png").read_bytes() == row["image"]
    # They are no inputs of the next run that takes in this folder.
    assert (tmp_path / "files" / ".restyle-output").is_dir()


def test_names_of_files_are_safe_and_their_own(tmp_path: Path) -> None:
    hostile = ["../../up.jpg", "a/same.jpg", "b/same.jpg", "x\n\x1b[31m.jpg", ".hidden"]
    hostile += ["\u00e9" * 300, "..", "a::../.."]
    taken: dict[str, str] = {}
    rows = [
        {"source": source, "image_id": f"{at:032x}", "face": 0} for at, source in enumerate(hostile)
    ]
    names = [file_base(row, taken) for row in rows]
    assert len(set(names)) == len(names)
    for name in names:
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert name.isprintable()
        assert len(name.encode()) < 160
        (tmp_path / f"{name} smile+2 photograph.png").touch()
    assert [file_base(row, taken) for row in rows] == names


def test_the_page_of_edits_is_named(out: Path, tmp_path: Path) -> None:
    a = direction(tmp_path, "a")
    result = CliRunner().invoke(
        app, ["edit", str(out), "--direction", str(a), "--no-score", "--strength", "1",
              "--out", str(tmp_path / "edits")]
    )  # fmt: skip
    assert f"report: {tmp_path / 'edits' / 'report.html'}" in result.stderr
    assert f"restyle view {tmp_path / 'edits'}" in result.stderr
    page = (tmp_path / "edits" / "report.html").read_text()
    assert page.count('alt="aligned input"') == 2
    assert page.count("<figcaption>original</figcaption>") == 2
    assert "identity" in page
