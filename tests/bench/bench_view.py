"""How soon the page of a large run is there, in headless Chromium.

Run ``python -m tests.bench.bench_view``. The run is made up: latents are short, pictures small, for
neither is read before it is looked at; everything else is as in a run of that size.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from restyle.pipeline.viewer.run import ViewedRun
from tests.browser import open_browser, served, until
from tests.pipeline.fabricated import METRICS, Made, fabricate

WANTED = 2.0
"""Seconds until the first paint."""

WANTED_ORDER = 1.0
"""Seconds until the faces stand in the order of a metric."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        fabricate(out, Made(faces=given.faces, rejects=3000, reconstructions="last", side=64))
        print(
            f"{given.faces:,} faces; {platform.machine()}, {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        runs: list[ViewedRun] = []
        timed("the table of faces is read", lambda: runs.append(ViewedRun(str(out))))
        browser = open_browser(Path(folder) / "profile")
        try:
            with served(runs) as server:
                shown = "document.body.dataset.shown === (location.hash || '#')"
                images = "[...document.querySelectorAll('.card img')]"
                there = f"{images}.slice(0, 10).every((image) => image.naturalWidth)"
                browser.get(server.url)
                until(browser, f"{shown} && {images}.length === 120 && {there}")
                marks = browser.execute_script(
                    "const paint = performance.getEntriesByType('paint');"
                    "const pictures = performance.getEntriesByType('resource')"
                    "  .filter((each) => each.initiatorType === 'img');"
                    "return [...paint.map((each) => [each.name, each.startTime]),"
                    "  ['last picture in view', Math.max(...pictures.map((p) => p.responseEnd))]]"
                )
                for name, milliseconds in marks:
                    verification = ""
                    if name == "first-contentful-paint":
                        verification = f"  {met(milliseconds / 1000, WANTED)}"
                    print(f"{name:28} {milliseconds / 1000:6.2f} s{verification}")
                orders = {f"sorted by {name}": f"faces?sort={name}" for name in METRICS}
                for name, address in {
                    **orders,
                    "the last page": f"faces?sort=lpips&page={given.faces // 60}",
                    "searched by name": "faces?name=0999",
                }.items():

                    def opened(address: str = address) -> None:
                        browser.execute_script(f"location.hash = '#{address}'")
                        until(browser, f"{shown} && location.hash === '#{address}'")

                    timed(name, opened, WANTED_ORDER if name in orders else None)
        finally:
            browser.quit()


def timed(name: str, do: Callable[[], None], wanted: float | None = None) -> None:
    started = time.perf_counter()
    do()
    seconds = time.perf_counter() - started
    verification = "" if wanted is None else f"  {met(seconds, wanted)}"
    print(f"{name:28} {seconds:6.2f} s{verification}")


def met(seconds: float, wanted: float) -> str:
    return f"wanted < {wanted:g} s: {'met' if seconds < wanted else 'MISSED'}"


if __name__ == "__main__":
    main()
