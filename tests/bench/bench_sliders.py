"""How long a slider's picture takes, from the page's request to the last byte.

Run ``python -m tests.bench.bench_sliders``. Two runs of one photograph are served on loopback: of
faces64, and of a model with random weights in the published faces 1024 shape. Every request has
strengths that no earlier one had, so that each picture is rendered; each is asked for alone and in
the photograph. Exit code 1 if a median is above its limit.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from restyle.core.bench.random_model import write_random_model
from restyle.core.editing.directions import About, Direction
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.server import ViewServer
from tests.browser import served

WANTED = {"faces64": 0.15, "faces1024": 1.5}
"""Seconds from the request to the picture, in the median, with all cores."""

PHOTOGRAPH = Path("samples/photos")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=15)
    pictures = parser.parse_args().pictures
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    slow = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        photos.mkdir()
        source = sorted(PHOTOGRAPH.glob("*.jpg"))[0]
        (photos / source.name).write_bytes(source.read_bytes())
        models = {
            "faces64": "faces64",
            "faces1024": str(write_random_model("faces1024", folder / "faces1024")),
        }
        for model, spec in models.items():
            out = folder / f"of-{model}"
            settings = InversionSettings(model=spec, steps=1, metrics=("l2",), dtype="fp32")
            workers = Workers(executor="local")
            invert_images(Request(str(photos), str(out), settings, device="cpu", workers=workers))
            about = About(name="away", kind="imported", scale=1)
            vector = np.random.default_rng(0).standard_normal(512)
            Direction.of(vector, about).save(folder / "directions")
            run = ViewedRun(str(out), directions=[str(folder / "directions")])
            with served([run]) as server:
                for place in ("alone", "photo"):
                    seconds = [
                        seconds_of(server, f"away={0.01 * number:.2f}&:in={place}")
                        for number in range(1, pictures + 2)
                    ]
                    # The first one loads the model.
                    median = statistics.median(seconds[1:])
                    slow |= median > WANTED[model]
                    print(
                        f"{model:10} {place:6} {median:.3f} s ({min(seconds[1:]):.3f} to "
                        f"{max(seconds[1:]):.3f}); the first one {seconds[0]:.2f} s; "
                        f"wanted < {WANTED[model]:g} s"
                    )
    sys.exit(int(slow))


def seconds_of(server: ViewServer, query: str) -> float:
    """Seconds until a picture has been read."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=120)
    query = query.replace("&:in=alone", "")
    headers = {"Cookie": f"{server.cookie}={server.token}"}
    connection.request("GET", f"/edit/0/0?{query}", None, headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"{query}: {answer.status} {body!r}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
