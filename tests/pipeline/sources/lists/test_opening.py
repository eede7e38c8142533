"""Lists whose names are spelled otherwise than their files, and lists that lead nowhere."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import InputPlan, PlanOutcome, plan_only
from restyle.pipeline.sources.lists import opening
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from tests.pipeline.in_process import in_process
from tests.pipeline.sources.listing import AUTO, listed
from tests.warm_command import restyle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "my photos/a.jpg",
        "my photos/b c.jpg",
        "café.jpg",
        "#1.jpg",
        "null",
        "100%25.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"photograph")
    return tmp_path


def plan(path: Path, options: InputOptions = AUTO) -> PlanOutcome:
    asked = InputPlan(str(path), str(path.with_suffix(".out")), options)
    return plan_only(asked, Listener())


def spelled(folder: Path) -> list[tuple[bytes, str]]:
    """Entries as they are written, and the files that they mean."""
    decomposed = unicodedata.normalize("NFD", "café.jpg").encode()
    return [
        (f"file://{folder}/my%20photos/a.jpg".encode(), "my photos/a.jpg"),
        (f"file://localhost{folder}/my%20photos/a.jpg".encode(), "my photos/a.jpg"),
        (f"file://{folder}/my photos/a.jpg".encode(), "my photos/a.jpg"),
        (b"my%20photos/b%20c.jpg", "my photos/b c.jpg"),
        (b"  my photos/a.jpg  ", "my photos/a.jpg"),
        (b"\tmy photos/b c.jpg", "my photos/b c.jpg"),
        (b'"my photos/b c.jpg"', "my photos/b c.jpg"),
        (b"my photos\\b c.jpg", "my photos/b c.jpg"),
        (b".\\my photos\\a.jpg", "my photos/a.jpg"),
        (b"caf\xe9.jpg", "café.jpg"),
        (decomposed, "café.jpg"),
        (b"#1.jpg", "#1.jpg"),
        (b"null", "null"),
        # What is there as it stands is never something else.
        (b"100%25.jpg", "100%25.jpg"),
    ]


@pytest.mark.parametrize("number", range(14))
def test_other_spellings_of_a_file_that_is_there(folder: Path, number: int) -> None:
    entry, name = spelled(folder)[number]
    (folder / "list.txt").write_bytes(b"my photos/a.jpg\n" + entry + b"\n")
    notes: list[str] = []
    images = listed(folder / "list.txt", notes=notes)
    assert images[1].uri == f"file://{folder}/{name}".encode()
    assert images[1].size == len(b"photograph")
    is_literal = (folder / os.fsdecode(entry)).exists() or entry.endswith(b"/my photos/a.jpg")
    assert len(notes) == (0 if is_literal else 1)
    assert all("spells the names of files otherwise" in note for note in notes)


def test_what_is_no_entry_is_counted(folder: Path) -> None:
    (folder / "null").unlink()
    lines = ["# photographs of May", "my photos/a.jpg", "  ", "NaN", "null", "#my photos/b c.jpg"]
    (folder / "list.txt").write_text("\n".join(lines))
    notes: list[str] = []
    assert [Path(image.source).name for image in listed(folder / "list.txt", notes=notes)] == [
        "a.jpg"
    ]
    assert notes == ["passed over: 3 empty entries of lists", "passed over: 2 comments in lists"]
    pq.write_table(pa.table({"uri": ["my photos/a.jpg", None, "None"]}), folder / "list.parquet")
    assert len(listed(folder / "list.parquet")) == 1
    (folder / "list.csv").write_text("path,n\nmy photos/a.jpg,1\nNULL,2\n,3\n")
    assert len(listed(folder / "list.csv")) == 1


NOWHERE = {
    "missing.txt": ("a.jpg\nb.jpg\nc.jpg\n", "3 of the first 3 .*No such file.* line 1"),
    "semi.csv": ("path;label\nphotos/a.jpg;1\nphotos/b c.jpg;0\n", "2 of the first 2 .* line 2"),
    "drive.txt": ("C:\\photos\\a.jpg\nC:\\photos\\b.jpg\n", "2 .*path of Windows.* line 1"),
    "share.csv": (
        "path\n\\\\server\\photos\\a.jpg\n\\\\server\\b.jpg\n",
        "path of Windows.* line 2",
    ),
    "uri.txt": ("file:///C:/photos/a.jpg\n", "the only entry .*path of Windows"),
    "labels.txt": ("my photos/a.jpg 1\nmy photos/b c.jpg 0\n", "2 .*No such file"),
    "captions.csv": ("caption\na dog\na cat\n", "2 .*No such file.* line 2"),
    "some.txt": ("my photos/a.jpg\nx.jpg\ny.jpg\n# z\n", "2 of the first 3 .* line 2"),
    "folders.txt": (".\n..\nmy photos\nmy photos/a.jpg\n", "3 of the first 4 .*is a folder"),
    "shards.txt": ("1.tar\n2.tar\n", "2 .*No such file"),
    "list.jsonl": ('{"file": "x.jpg"}\n{"file": "y.jpg"}\n', "2 .*No such file.* line 1"),
    "scheme.txt": ("nowhere://a.jpg\nnowhere://b.jpg\n", "2 .*no such kind of address"),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_a_list_that_leads_nowhere_is_an_error_and_no_rejects(folder: Path, name: str) -> None:
    text, said = NOWHERE[name]
    (folder / name).write_text(text)
    with pytest.raises(SpecError, match=said) as caught:
        plan(folder / name)
    assert "\n" not in str(caught.value)
    assert str(folder / name) in str(caught.value)
    assert not (folder / name).with_suffix(".out").exists()


def test_a_half_is_not_more_than_half(folder: Path) -> None:
    (folder / "list.txt").write_text("my photos/a.jpg\nx.jpg\n")
    assert plan(folder / "list.txt").images == 2


def test_reasons_are_counted_apart(folder: Path) -> None:
    lines = ["my photos/a.jpg", "x.jpg", "y.jpg", "C:\\a.jpg", "C:\\b.jpg"]
    (folder / "list.txt").write_text("\n".join(lines))
    assert plan(folder / "list.txt").images == 5


def test_the_first_thousand_decide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "FIRST", 20)
    good, bad = ["my photos/a.jpg"] * 12, [f"{at}.jpg" for at in range(11)]
    (folder / "late.txt").write_text("\n".join(good + bad * 20))
    assert plan(folder / "late.txt").images == 12
    (folder / "early.txt").write_text("\n".join(good[:9] + bad + good * 20))
    with pytest.raises(SpecError, match="11 of the first 20 entries"):
        plan(folder / "early.txt")


def test_what_is_planned_is_not_looked_at_again(folder: Path) -> None:
    (folder / "list.txt").write_text("my photos/a.jpg\nmy photos/b c.jpg\n")
    assert plan(folder / "list.txt").planned.new == 2
    for path in (folder / "my photos").iterdir():
        path.unlink()
    assert plan(folder / "list.txt").images >= 2
    (folder / "list.txt").write_text("my photos/a.jpg\nmy photos/b c.jpg\nnew.jpg\n")
    with pytest.raises(SpecError, match="the only entry cannot be opened"):
        plan(folder / "list.txt")


def test_a_list_in_a_folder_that_leads_nowhere_is_passed_over(folder: Path) -> None:
    photos = folder / "my photos"
    pq.write_table(pa.table({"file_name": ["x/1.jpg", "x/2.jpg"]}), photos / "about.parquet")
    notes: list[str] = []
    listener = Listener()
    listener.noted = notes.append  # type: ignore[method-assign]
    asked = InputPlan(str(photos), str(folder / "out"), AUTO)
    assert plan_only(asked, listener).images == 2
    (note,) = notes
    assert note.startswith(f"passed over: {photos}/about.parquet: 2 of the first 2 entries")
    # One that leads somewhere is a list.
    pq.write_table(pa.table({"file_name": ["../café.jpg"]}), photos / "about.parquet")
    assert plan_only(asked, listener).images == 3


def run(source: str, out: Path, model: Path) -> int:
    settings = InversionSettings(model=str(model), steps=1, align=False, metrics=(), dtype="fp32")
    request = Request(source, str(out), settings, device="cpu")
    return invert_images(request, engine=in_process).images


def test_a_run_opens_some_of_what_lies_elsewhere(tmp_path: Path, tiny_model: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/lists-elsewhere/there.jpg", b"text")
    uris = [f"memory://lists-elsewhere/{name}" for name in ("there.jpg", "1.jpg", "2.jpg")]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(uris))
    with pytest.raises(SpecError, match=r"2 of the first 3 .*No such file.*line 2, 'memory://"):
        run(str(path), tmp_path / "out", tiny_model)
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file()]
    # Only planned, nothing elsewhere is asked for.
    assert plan(path).images == 3
    # A half is accounted for.
    path.write_text("\n".join([*uris, uris[0]]))
    assert run(str(path), tmp_path / "other", tiny_model) == 3


def test_few_are_opened_unless_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    gone: set[str] = set()

    def opens(image: SourceImage) -> None:
        asked.append(image.source)
        if image.source in gone:
            raise FileNotFoundError(image.source)

    def look(count: int) -> None:
        asked.clear()
        looking = opening.Opening("list", opens)
        for at in range(count):
            uri = f"s3://bucket/{at}.jpg"
            looking.see(SourceImage("0" * 32, uri, uri.encode(), -1, ""), uri, f"line {at}")
        looking.judge()

    look(960)
    assert len(asked) == 16
    gone.update(f"s3://bucket/{at}.jpg" for at in range(480))
    look(960)
    assert len(set(asked)) == 960
    gone.add("s3://bucket/480.jpg")
    with pytest.raises(SpecError, match="481 of the first 960 entries"):
        look(960)


def test_the_command_stops_with_one_line(folder: Path) -> None:
    (folder / "semi.csv").write_text("path;label\ngone/a.jpg;1\ngone/b c.jpg;0\n")
    result = restyle("plan", folder / "semi.csv", "--out", folder / "out")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "2 of the first 2 entries cannot be opened (No such file or directory)" in line
    assert f"line 2, 'gone/a.jpg', taken for {folder}/gone/a.jpg" in line
    assert not (folder / "out").exists()
    (folder / "semi.csv").write_text("path;label\nmy photos/a.jpg;1\nmy photos/b c.jpg;0\n")
    assert restyle("plan", folder / "semi.csv", "--out", folder / "out").returncode == 0


def test_no_password_or_signature_of_an_entry_is_shown(folder: Path) -> None:
    address = "https://user:hidden@127.0.0.1:1/a.jpg?sig=hidden"
    (folder / "list.txt").write_text(f"{address}\n")
    result = restyle("plan", folder / "list.txt", "--out", folder / "out", "--allow-private-urls")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "line 1, 'https://127.0.0.1:1/a.jpg';" in line
    assert "hidden" not in line
