"""``restyle view`` as a person runs it: an address, Ctrl-C, an export, and one line for errors."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.command import start
from tests.pipeline.fabricated import HOSTILE, Made, fabricate
from tests.warm_command import restyle


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "out"
    fabricate(folder, Made(faces=12, rejects=2, names=HOSTILE))
    return folder


def test_served_on_loopback_until_ctrl_c(out: Path) -> None:
    process = start("view", out, env={"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"ReStyle" in opener.open(address, timeout=60).read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.partition("?")[0], timeout=60)  # noqa: S310
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")


def test_an_export(out: Path, tmp_path: Path) -> None:
    done = restyle("view", out, "--export", tmp_path / "page", "--most", 5)
    assert done.stdout.startswith("5 of 12 faces")
    assert "<script>alert" not in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "page" / "pictures").glob("0-*-0.webp"))) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such"], "/no/such holds no output of restyle"),
        (["OUT", "--export", "OUT"], "holds something else than a page of restyle view"),
        (["OUT", "--model", "nobody"], "nobody"),
        (["OUT", "--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
    ],
)
def test_errors_are_one_line(out: Path, arguments: list[str], words: str) -> None:
    done = restyle("view", *(str(out) if each == "OUT" else each for each in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
