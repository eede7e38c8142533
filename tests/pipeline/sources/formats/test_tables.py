"""Tables and lists as people and their programs write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.sources.options import InputOptions
from tests.pipeline.sources.listing import listed as images

ROWS = [("my photos/a.jpg", "1"), ("my photos/b c.jpg", "0")]
BODY = "path;label\nmy photos/a.jpg;1\nmy photos/b c.jpg;0\n"
EXPECTED = [path for path, _ in ROWS]


def listed(path: Path, column: str | None = None) -> list[str]:
    """Names of what a list names, below its folder."""
    found = images(path, InputOptions(column=column))
    assert not [image.fault for image in found if image.fault]
    return [image.uri.decode().removeprefix(f"file://{path.parent}/") for image in found]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolons.csv", BODY),
        ("tabs.csv", BODY.replace(";", "\t")),
        ("pipes.csv", BODY.replace(";", "|")),
        ("commas.tsv", BODY.replace(";", ",")),
        ("tabs.txt", BODY.replace(";", "\t")),
        ("own.tab", BODY.replace(";", "\t")),
        ("decimals.csv", "path;width\nmy photos/a.jpg;1,5\nmy photos/b c.jpg;2,5\n"),
        ("label_first.csv", "label,path\n1,my photos/a.jpg\n0,my photos/b c.jpg\n"),
        ("no_header.csv", BODY.partition("\n")[2]),
        ("no_header_commas.csv", "1,my photos/a.jpg\n0,my photos/b c.jpg\n"),
        ("blanks.csv", '"path", "label"\n"my photos/a.jpg", "1"\n"my photos/b c.jpg", "0"\n'),
        ("windows_lines.csv", BODY.replace("\n", "\r\n")),
        ("old_mac_lines.txt", "my photos/a.jpg\rmy photos/b c.jpg\r"),
        ("blank_lines.csv", "\n" + BODY.replace("\n", "\n\n")),
        ("comments.csv", "# made by hand, in May\n# twice\n" + BODY.replace("0", "0\n# end")),
        ("comment_header.csv", "#" + BODY),
        ("quoted.csv", 'note,path\n"two\nlines, ""so""",my photos/a.jpg\nx,my photos/b c.jpg\n'),
        ("short_rows.csv", "path,a,b\nmy photos/a.jpg,1,2\nmy photos/b c.jpg\n"),
        ("captions.csv", "path,caption\nmy photos/a.jpg,a dog. / cat\nmy photos/b c.jpg,two\n"),
        ("objects.jsonl", '{"file": "my photos/a.jpg", "n": 1}\n{"file": "my photos/b c.jpg"}\n'),
        ("texts.ndjson", '"my photos/a.jpg"\n\n"my photos/b c.jpg"\n'),
        ("one_column.csv", "path\nmy photos/a.jpg\nmy photos/b c.jpg\n"),
    ],
)
def test_ways_to_write_a_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert listed(tmp_path / name) == EXPECTED


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8"]
)
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl"])
def test_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    text = {
        "a.csv": "path;label\nphotos/é 日.jpg;1\nb.jpg;2\n",
        "a.txt": "photos/é 日.jpg\nb.jpg\n",
        "a.jsonl": '{"path": "photos/é 日.jpg"}\n{"path": "b.jpg"}\n',
    }[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert listed(tmp_path / name) == ["photos/é 日.jpg", "b.jpg"]


def test_columns_without_names_have_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a.jpg,x/1.png\nb.jpg,x/2.png\n")
    with pytest.raises(SpecError, match=r"several columns \(1, 2\) .*choose one with --column"):
        listed(tmp_path / "a.csv")
    assert listed(tmp_path / "a.csv", "2") == ["x/1.png", "x/2.png"]


def test_what_is_asked_for_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(" key ; name\n001;a.jpg\n002;b.jpg\n")
    assert listed(tmp_path / "a.csv", "key") == ["001", "002"]
    (tmp_path / "a.jsonl").write_text('{"key": "001", "name": "a.jpg"}\n{"key": null}\n')
    assert listed(tmp_path / "a.jsonl", "key") == ["001"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", 'path,n\na.jpg,1\n"b.jpg,2\nc.jpg,3\n', "closes a quote in the row at line 3"),
        ("a.csv", 'path\n"' + "x\n" * 100_000, "in the row at line 2"),
        ("a.csv", "path,n\na.jpg,1\n" + "x" * 40_000, "line 3 is longer than 32,768"),
        ("a.jsonl", '{"path": "a.jpg"}\n{"path": \n', "line 2 is no JSON"),
        ("a.jsonl", '{"path": "a.jpg"}\n{"path": 7}\n', "line 2: 7 is no path"),
        ("a.jsonl", '{"width": 7}\n', "no column holds texts; its columns are width"),
        ("a.jsonl", '{"a": "1.jpg", "b": "2.jpg"}\n', r"several columns \(a, b\)"),
        ("a.csv", "name;text\na;dog\nb;cat\n", r"several columns \(name, text\), none of which"),
    ],
)
def test_errors_name_the_line_or_the_columns(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=said) as caught:
        listed(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_long_table_is_read_to_its_end(tmp_path: Path) -> None:
    rows = [f'{at};"a ""{at}""\nnote";x/{at}.jpg' for at in range(5000)]
    (tmp_path / "a.csv").write_text("\n".join(["id;note;file", *rows]))
    assert listed(tmp_path / "a.csv") == [f"x/{at}.jpg" for at in range(5000)]
