"""The measurement: a random sample is inverted into a folder of its own, as the job would do it.

Three runs: the first has a few inputs and pays for whatever a command pays, such as imports. The
second and the third differ in nothing but the number of their inputs. What the third one takes
longer is what so many more inputs take, since both warm up, fill the stages and empty them again.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from restyle.core.errors import RejectError, RestyleError, SpecError, reason_of
from restyle.pipeline.decoding.headers import megapixels_of
from restyle.pipeline.estimation.population import Population
from restyle.pipeline.estimation.sample_run import Sample, SampleRun, run_sample
from restyle.pipeline.execution.executor import Engine, is_local
from restyle.pipeline.execution.placement import choose, operators
from restyle.pipeline.execution.request import Request
from restyle.pipeline.listener import Listener
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.addresses import local_path
from restyle.pipeline.storage.filesystem import open_storage

FIRST = 8
"""Inputs of the first run."""

LEAST, MOST = 32, 4096
"""Inputs of the third run, unless their number is given."""

PART = 4
"""The second run has as many of the third one's inputs as this goes into them."""

UNITS = 8
"""Units of the third run at least, so that stages overlap and an interval can be told."""

_LEAST_SHARE = 0.4

_HEADERS = 64
"""Inputs whose headers are read."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        seconds: that the third run is meant to take.
        sample: number of its inputs; None to choose it by ``seconds``.
        seed: of the drawing.
        scratch: folder or URI for the rows of the sample, which the workers reach; None for this
            machine's folder for temporary files.
    """

    seconds: float = 20.0
    sample: int | None = None
    seed: int = 0
    scratch: str | None = None


@dataclass(frozen=True)
class Measurement:
    """What a sample took.

    Attributes:
        first: the first run.
        second: the second run, of a part of the sample's size; None where there are too few inputs.
        run: the third run.
        compiling: seconds of compiling kernels, which later runs find compiled.
        is_local: whether this process ran them; otherwise Ray did.
        megapixels: of some inputs of the sample; of those whose header tells.
    """

    first: SampleRun
    second: SampleRun | None
    run: SampleRun
    compiling: float
    is_local: bool
    megapixels: list[float]

    @property
    def each(self) -> float:
        """Seconds that each further input takes."""
        mean = self.run.computing / self.run.images
        if self.second is None or self.second.images >= self.run.images:
            return mean
        longer = self.run.computing - self.second.computing
        more = self.run.images - self.second.images
        # Beyond these bounds, the machine was not equally fast in both runs.
        return min(mean, max(_LEAST_SHARE * mean, longer / more))

    @property
    def starting(self) -> float:
        """Seconds from the command until the workers are warm."""
        # The first run is too short to tell how long the workers are warming up.
        warming = self.run.computing - self.run.images * self.each
        return self.first.starting + max(0.0, warming)


def measure(
    request: Request,
    population: Population,
    effort: Effort,
    listener: Listener,
    engine: Engine | None = None,
) -> Measurement:
    """Invert a sample of a job's inputs.

    Args:
        request: the job, on a device that exists.
        population: its inputs.
        effort: how much to measure.
        listener: receives notes and the progress.
        engine: as for :func:`restyle.pipeline.inversion.run.invert_images`.

    Raises:
        SpecError, FatalError: as the job itself would fail.
        Interrupted: the user pressed Ctrl-C.
    """
    here = is_local(request.workers, round(population.inputs))
    if request.workers.executor == "auto":
        # The executor of the whole job, not the one that suits a small sample.
        workers = replace(request.workers, executor="local" if here else "ray")
        request = replace(request, workers=workers)
    request = replace(request, max_reject_rate=1.0, limit=None)
    started = time.perf_counter()
    device = choose(request.settings.dtype, request.device, request.workers).device
    operators(device, request.workers)
    compiling = time.perf_counter() - started
    with _scratch(request, effort) as folder:

        def run(name: str, count: int, in_unit: int, seed: int, to: Listener) -> SampleRun:
            images = population.draw(count, seed)
            sample = Sample(images, in_unit, population.in_unit)
            return run_sample(replace(request, out=f"{folder}/{name}"), sample, to, engine)

        first = run("first", FIRST, FIRST // PART, effort.seed + 2, Listener())
        most = len(population.sizes)
        few = effort.sample or _fitting(first, effort.seconds)
        # Few inputs are all measured, in the units of the job, which tell no interval.
        is_whole = most <= min(few, PART**2)
        few = max(1, min(few, most) // PART)
        usual = round(population.in_unit)
        in_unit = usual if is_whole else max(1, min(few * PART // UNITS, usual))
        second = None
        if few >= PART and not is_whole:
            second = run("second", few, in_unit, effort.seed + 1, Listener())
        count = effort.sample or max(few * PART, _fitting(second or first, effort.seconds))
        third = run("third", count, in_unit, effort.seed, listener)
    images = population.draw(min(third.images, _HEADERS), effort.seed)
    megapixels = list(_megapixels(request, images))
    return Measurement(first, second, third, compiling, here, megapixels)


def _fitting(run: SampleRun, seconds: float) -> int:
    """Inputs that take so many seconds at the rate of a run."""
    rate = run.images / max(run.computing, 1e-3)
    return round(min(MOST, max(LEAST, rate * seconds)))


def _megapixels(request: Request, images: Iterable[SourceImage]) -> Iterator[float]:
    policy = UrlPolicy(request.input.allow_private_urls, request.source)
    with contextlib.closing(SourceReader(request.source, policy)) as reader:

        def data_of(image: SourceImage) -> bytes:
            try:
                return b"" if image.fault else reader.read(image)
            except (RejectError, OSError):
                return b""

        for found in megapixels_of(map(data_of, images)):
            if found is not None:
                yield found


def on_existing_device(request: Request) -> Request:
    """Return a request for this machine's CPU if it has not the GPU that is asked for.

    Whether a cluster has one, it says itself.
    """
    if request.workers.address is not None or not request.device.startswith("cuda"):
        return request
    try:
        choose(request.settings.dtype, request.device)
    except SpecError:
        return replace(request, device="cpu")
    return request


@contextlib.contextmanager
def _scratch(request: Request, effort: Effort) -> Iterator[str]:
    """A new folder that is removed at the end."""
    scratch = effort.scratch
    if scratch is None and request.workers.address is not None:
        raise SpecError(
            "--address needs --scratch as well: a folder or URI that every node reaches, for the "
            "rows of the sample, which are removed at the end"
        )
    path = None if scratch is None else local_path(scratch)
    if scratch is None or path is not None:
        with _temporary(path) as folder:
            yield folder
        return
    folder = f"{scratch.rstrip('/')}/restyle-estimate-{secrets.token_hex(4)}"
    storage = open_storage(folder)
    try:
        yield folder
    finally:
        for name in storage.tree():
            storage.delete(name)


@contextlib.contextmanager
def _temporary(parent: str | None) -> Iterator[str]:
    try:
        folder = tempfile.mkdtemp(prefix="restyle-estimate-", dir=parent)
    except OSError as error:
        raise SpecError(f"--scratch {parent}: {reason_of(error)}; give a folder") from error
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError, RestyleError):
            shutil.rmtree(folder)
