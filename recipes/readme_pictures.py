"""Make the pictures at the top of the README: the report of samples/people, and edits of one face.

``python -m recipes.readme_pictures`` needs Chromium with its driver
(Debian: apt-get install chromium chromium-driver), and takes a minute or two. Run it again when
the report looks different.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import typer
from PIL import Image, ImageDraw, ImageFont
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[1]
FACE = "selfie-09.jpg"
DIRECTIONS = ("smile", "age", "pose")
STRENGTHS = "-3..3/7"

# Pixels of the browser's window.
_WINDOW = (1200, 900)
_LABEL = 70
_QUALITY = 82


def main(
    to: Path = typer.Argument(ROOT / "docs" / "pictures", help="Folder of report.jpg, edit.jpg."),
    out: Path = typer.Option(None, help="A finished run of samples/people; made when left out."),
) -> None:
    """Write ``report.jpg`` and ``edit.jpg``."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if out is None:
            out = work / "out"
            photos = ROOT / "samples" / "people"
            _restyle("invert", photos, "--out", out, "--reconstructions", "all")
        _save(_report(out / "report.html"), to / "report.jpg")
        _save(_edits(out, work), to / "edit.jpg")


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


def _edits(out: Path, work: Path) -> Image.Image:
    """Draw one face along each direction, a row for each, from the lowest strength on."""
    rows = []
    for direction in DIRECTIONS:
        to = work / f"{direction}.png"
        words = ("--direction", direction, "--strength", STRENGTHS, "--out", to)
        _restyle("animate", out, FACE, *words)
        rows.append(Image.open(to).convert("RGB"))
    width, height = rows[0].size
    sheet = Image.new("RGB", (width + _LABEL, height * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, (name, row) in enumerate(zip(DIRECTIONS, rows, strict=True)):
        sheet.paste(row, (_LABEL, number * height))
        draw.text((4, (number + 0.5) * height), name, "black", font, anchor="lm")
    return sheet


def _save(picture: Image.Image, to: Path) -> None:
    picture.save(to, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    typer.echo(f"{to}: {picture.width} x {picture.height}, {to.stat().st_size // 1024} kB")


if __name__ == "__main__":
    typer.run(main)
