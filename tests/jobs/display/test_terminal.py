"""Foreign text on its way to a person: everything that writes goes through one place."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table

from restyle.core.shown_text import recorded, visible, visible_lines, visible_strings
from restyle.jobs.display.terminal import console, emit, say, say_lines
from restyle.pipeline.report.html import render_page
from tests.pipeline.fabricated import Made, fabricate
from tests.warm_command import restyle

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("kernels", "restyle_core", "pipeline", "jobs")

HOSTILE = [
    "\x1b]0;owned\x07name",
    "\x1b[2J\x1b[31mred",
    "photo\u202egpj.exe",
    "two\nclean\n",
    "\x9b31mc1\x85",
    "[bold]markup[/bold] :smile: {{ 7*7 }} <script>alert(1)</script>",
    "caf\udce9.jpg",
    "zero\u200bwidth\u2028line",
]

WRITERS = {"print", "Console", "escape", "isprintable", "redirect_stdout"}
"""Names that only the one place may call: what prints, what makes consoles, what escapes."""
ATTRIBUTES = {"echo", "secho", "style", "stdout", "stderr", "unicode_escape", "get_template"}

ALLOWED = {
    "restyle_core/shown_text.py": {"isprintable"},
    "jobs/display/terminal.py": {"Console", "echo", "stdout"},
    "pipeline/report/html.py": {"escape", "get_template"},
    # Escapes for SVG, where nothing but the names of frequency bands stands.
    "pipeline/pictures/band_plot.py": {"escape"},
    # Data for programs goes out by the csv module, and is visible on a terminal.
    "jobs/display/answers.py": {"stdout"},
    # Spells a name as files may have it, to look for it; nothing is shown.
    "pipeline/forgetting/search.py": {"escape"},
    # JSON of one line, in ASCII, and flushing.
    "jobs/commands/look/status.py": {"echo", "stdout"},
    # Flushing and closing.
    "jobs/cli.py": {"stdout", "stderr"},
    "jobs/display/streams.py": {"stdout", "stderr"},
    "jobs/commands/look/query.py": {"stdout"},
    "pipeline/execution/ray/cluster.py": {"stderr"},
}


def writers(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything that could show text past the one place."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if name in WRITERS and owner not in ("re", "glob"):
                is_ours = name == "print" and isinstance(node.func, ast.Attribute)
                # A console of ours prints what it is given visibly.
                if not is_ours:
                    yield node.lineno, str(name)
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            owner = getattr(node.value, "id", "")
            if owner in ("sys", "typer", "click") or node.attr == "get_template":
                yield node.lineno, node.attr


def test_nothing_else_shows_text() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line} uses {name}; see restyle.jobs.display.terminal"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, name in writers(path.read_text(encoding="utf-8"))
        if name not in ALLOWED.get(str(path.relative_to(ROOT)), set())
    ]
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(
    "source",
    [
        "print(name)",
        "import typer\ntyper.echo(name)",
        "from rich.console import Console\nConsole(stderr=True)",
        "import sys\nsys.stderr.write(name)",
        "text.isprintable()",
        "import jinja2\njinja2.Environment().get_template('x')",
    ],
)
def test_the_finder_sees_what_prints(source: str) -> None:
    assert list(writers(source))


def test_templates_switch_nothing_off() -> None:
    templates = [*(ROOT / "pipeline" / "templates").iterdir()]
    assert len(templates) > 5
    for path in templates:
        text = path.read_text(encoding="utf-8")
        for word in ("|safe", "| safe", "autoescape false", "innerHTML", "document.write"):
            assert word not in text, f"{path.name} has {word}"


@given(st.text())
@example("a\ud800b")
@example("\U000e0041\ufeff\u2066")
def test_what_is_visible_can_be_printed_and_is_one_line(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(shown) == shown
    assert visible_lines(text).count("\n") == text.count("\n")
    assert all(visible(line) == line for line in visible_lines(text.replace("\t", "")).split("\n"))
    assert len(recorded(text).splitlines()) <= 1
    recorded(text).encode()


def test_ordinary_text_stays() -> None:
    for text in ("Grüße 東京 👩.jpg", "a b", "", "x\\ny", "שלום"):
        assert visible(text) == recorded(text) == text
    # A name that an emoji is joined in is recorded as the file is called.
    family = "👩\u200d👧.jpg"
    assert recorded(family) == family
    assert visible(family) == "👩\\u200d👧.jpg"
    assert visible("\x1b\n\u202e\udce9") == r"\x1b\n\u202e\xe9"
    assert visible_strings({"a\n": ["\x1b", 1, None, ("\t",)]}) == {
        "a\\n": ["\\x1b", 1, None, ["\\t"]]
    }


def is_harmless(shown: str, lines: int) -> bool:
    return shown.count("\n") == lines and not {
        unicodedata.category(each) for each in shown.replace("\n", "")
    } & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_and_consoles(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    say(text, error=True)
    printed = capsys.readouterr()
    assert printed.out == printed.err == f"{visible(text)}\n"
    say_lines(f"{text}\r\nnext\n")
    assert is_harmless(capsys.readouterr().out, text.count("\n") + 2)
    file = io.StringIO()
    shown = console(file)
    table = Table(box=None, show_header=True, title=text)
    table.add_column(text, no_wrap=True)
    table.add_row(text)
    shown.print(text)
    shown.print(table)
    assert is_harmless(file.getvalue(), 4)
    assert file.getvalue().startswith(f"{visible(text)}\n")
    # Markup is text as well.
    assert file.getvalue().count("[bold]") == 4 * text.count("[bold]")


def test_programs_get_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    emit("photo\u202e.jpg")
    assert capsys.readouterr().out == "photo\u202e.jpg\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_pages(text: str) -> None:
    about = {
        "name": text,
        "uri": text,
        "faces": 1,
        "reasons": [{"name": text, "title": text, "count": 1}],
        "directions": [],
        "metrics": [],
        "edit_reason": text,
        "model": text,
        "rejects": 1,
    }
    values = {"runs": [about], "exported": None, "scripts": (), "accepts_uploads": True}
    page = render_page("view.html.j2", values)
    html = page.decode()
    assert "<script>alert" not in html
    data = html.partition('id="runs">')[2].partition("</script>")[0]
    assert json.loads(data)[0]["name"] == visible(text)
    assert not {unicodedata.category(each) for each in html.replace("\n", "")} & {"Cc", "Cf", "Cs"}


def test_an_output_of_a_stranger_on_the_terminal(tmp_path: Path) -> None:
    """Reasons, names and columns of a tampered output, through the commands that show them."""
    out = tmp_path / "out"
    hostile = "\x1b]0;owned\x07\u202e\nclean"
    fabricate(out, Made(faces=3, model=hostile))
    (file,) = (out / "latents").iterdir()
    table = pq.read_table(file)
    column = pa.array([hostile] * len(table))
    pq.write_table(table.append_column(hostile, column), out / "latents" / f"x{hostile}.parquet")
    for command in (
        ["verify", str(out)],
        ["status", str(out)],
        ["query", str(out), f"select 1 as \"{hostile}\", '{hostile}' as x"],
        ["query", str(out), 'select "X" from x'.replace("X", hostile)],
        ["runs", str(out)],
    ):
        done = restyle(*command)
        for shown in (done.stdout, done.stderr):
            assert "Traceback" not in shown
            assert "\nclean\n" not in shown
            assert is_harmless(shown, shown.count("\n")), (command, shown)


def test_a_terminal_gets_escapes_and_a_pipe_the_name() -> None:
    code = (
        "import sys; from restyle.jobs.display.terminal import emit;"
        "sys.stdout.isatty = lambda: True; emit('a\\u202eb')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a\\u202eb\n"
