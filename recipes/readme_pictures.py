"""Make the pictures of the README's top and of edits: a report and edits of samples/people.

``python -m recipes.readme_pictures`` needs Chromium with its driver
(Debian: apt-get install chromium chromium-driver), and takes a minute or two. Run it again when
the report looks different.
"""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer
from PIL import Image, ImageDraw, ImageFont, ImageOps
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from restyle.core.editing.strengths import parse_strengths

ROOT = Path(__file__).resolve().parents[1]
FACE = "selfie-09.jpg"
FACES = ("selfie-02.jpg", "portrait-08.jpg", "selfie-10.jpg")
PASTED = ("selfie-09.jpg", "portrait-06.jpg")
DIRECTIONS = ("smile", "age", "pose")
STRENGTHS = "-3..3/7"

# Pixels of the browser's window.
_WINDOW = (1200, 900)
_LABEL = 70
_SIDE, _GAP = 128, 4
_PHOTO = (330, 330)
_QUALITY = 82


def main(
    to: Path = typer.Argument(ROOT / "docs" / "pictures", help="Folder of the pictures."),
    out: Path = typer.Option(None, help="A finished run of samples/people; made when left out."),
) -> None:
    """Write ``report.jpg``, ``edit.jpg``, ``edits.jpg`` and ``paste-back.jpg``."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if out is None:
            out = work / "out"
            photos = ROOT / "samples" / "people"
            _restyle("invert", photos, "--out", out, "--reconstructions", "all")
        _save(_report(out / "report.html"), to / "report.jpg")
        files = _edit(out, work)
        _save(_sheet(files, [FACE]), to / "edit.jpg")
        _save(_sheet(files, FACES), to / "edits.jpg")
        _save(_pasted(out, work), to / "paste-back.jpg")


def _restyle(*arguments: object) -> None:
    command = [sys.executable, "-m", "restyle", *map(str, arguments)]
    subprocess.run(command, check=True)  # noqa: S603 - our own interpreter and modules


def _report(page: Path) -> Image.Image:
    """Take a picture of the report where the faces begin."""
    options = Options()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.set_window_size(*_WINDOW)
        browser.get(page.resolve().as_uri())
        browser.execute_script("document.querySelector('#faces').scrollIntoView()")
        # Pictures are loaded when they come into view.
        seen = "[...document.images].filter(each => each.getBoundingClientRect().top < innerHeight)"
        WebDriverWait(browser, 60).until(
            lambda each: each.execute_script(f"return {seen}.every(image => image.complete)")
        )
        return Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    finally:
        browser.quit()


def _edit(out: Path, work: Path) -> Path:
    """Edit all faces along each direction; return the folder of their pictures."""
    for direction in DIRECTIONS:
        words = ("--direction", direction, "--strength", STRENGTHS, "--no-score")
        _restyle("edit", out, *words, "--out", work / direction, "--pictures", work / "files")
    return work / "files"


def _sheet(files: Path, faces: Sequence[str]) -> Image.Image:
    """Draw faces along each direction, a row for each, from the lowest strength on."""
    rows = list(itertools.product(faces, DIRECTIONS))
    strengths = parse_strengths(STRENGTHS)
    width = _LABEL + len(strengths) * (_SIDE + _GAP)
    sheet = Image.new("RGB", (width, len(rows) * (_SIDE + _GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for row, (face, direction) in enumerate(rows):
        top = row * (_SIDE + _GAP)
        draw.text((4, top + _SIDE // 2), direction, "black", font, anchor="lm")
        for column, strength in enumerate(strengths):
            picture = Image.open(files / f"{Path(face).stem} {direction}{strength:+g}.png")
            large = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            sheet.paste(large, (_LABEL + column * (_SIDE + _GAP), top))
    return sheet


def _pasted(out: Path, work: Path) -> Image.Image:
    """Draw photographs, and beside each its face put back with less and with more of a smile."""
    rows = []
    for name in PASTED:
        files = work / f"{name}-files"
        how = ("--paste-back", "--keep-detail", "--no-score", "--only", name, "--pictures", files)
        words = ("--direction", "smile", "--strength", "-3,3", "--out", work / f"{name}-edits")
        _restyle("edit", out, *words, *how)
        stem = Path(name).stem
        edited = [files / f"{stem} smile{each} photograph.png" for each in ("-3", "+3")]
        pictures = [Image.open(path) for path in (ROOT / "samples" / "people" / name, *edited)]
        rows.append([ImageOps.contain(each.convert("RGB"), _PHOTO) for each in pictures])
    height = sum(row[0].height for row in rows)
    sheet = Image.new("RGB", (3 * _PHOTO[0], height), "white")
    top = 0
    for row in rows:
        for number, picture in enumerate(row):
            sheet.paste(picture, (number * _PHOTO[0], top))
        top += row[0].height
    return sheet


def _save(picture: Image.Image, to: Path) -> None:
    picture.save(to, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    typer.echo(f"{to}: {picture.width} x {picture.height}, {to.stat().st_size // 1024} kB")


if __name__ == "__main__":
    typer.run(main)
