"""The Ray Data graph: units -> alignment actors -> inversion actors, which also write.

Ray moves *envelopes*: blocks of one row, which is one unit, so that no block is ever split or
merged. Failures travel in envelopes too; an exception would cost Ray's retries and say less.
The inversion stage writes its own units, because their images would otherwise cross the object
store and a third kind of process would have to be started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.aligner import AlignedUnit, Aligner
from pipeline.envelope import opened, seal
from pipeline.job import Job, Receipt, failure, one_line
from pipeline.manifest import PlanReader, UnitRef
from pipeline.sink import write_unit
from pipeline.storage import open_storage
from restyle_core.errors import FatalError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Alignment shares the cores with inversion, whose idle threads would otherwise spin on them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Warns of arguments that a restarted actor may lose; they live as long as this process.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray
import ray.data

_OBJECT_STORE_BYTES = 512 * 2**20

# Fractions of a core in Ray's books. The real work is in threads and child processes; what
# matters is that all stages fit on one core together, or none would ever start.
_ALIGN_CPUS = 0.4
_INVERT_CPUS = 0.4

# Short, because the paths of Unix sockets inside may have no more than 107 characters.
_FOLDERS = "/tmp"  # noqa: S108 (mkdtemp makes a private folder in it)
_FOLDER_PREFIX = "restyle-"


@contextlib.contextmanager
def local_cluster() -> Iterator[None]:
    """A Ray cluster on this machine alone, gone without a trace at the end.

    Raises:
        FatalError: it does not start.
    """
    _sweep()
    folder = tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-", dir=_FOLDERS)
    try:
        try:
            with _standard_error_closed():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=folder,
                )
        except Exception as error:
            raise FatalError(f"Ray does not start: {one_line(error)}") from error
        _be_quiet()
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def run_units(job: Job, units: Sequence[UnitRef]) -> Iterator[Receipt]:
    """Run units, in any order, on the cluster that is there.

    Units whose worker died may have no receipt.

    Args:
        job: what the workers need to know.
        units: pending ones.

    Yields:
        A receipt as soon as a unit is committed or has failed.
    """
    # A numbered device is the user's own choice, which Ray's assignment must not renumber.
    gpu = job.device == "cuda"
    dataset = (
        ray.data.from_blocks([seal(unit.name, unit) for unit in units])
        .map_batches(
            _AlignStage,
            fn_constructor_args=(job, min(job.threads, sum(unit.images for unit in units))),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=_ALIGN_CPUS,
            # A second call keeps the processes busy while the first puts its unit into the store.
            compute=ray.data.ActorPoolStrategy(
                size=1,
                max_tasks_in_flight_per_actor=3,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
        )
        .map_batches(
            _InvertStage,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_INVERT_CPUS,
            num_gpus=1 if gpu else 0,
            # A second call writes its unit while the first computes.
            compute=ray.data.ActorPoolStrategy(
                size=1,
                max_tasks_in_flight_per_actor=2,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
        )
    )
    for table in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for row in range(table.num_rows):
            yield opened(table.slice(row, 1))


class _AlignStage:
    def __init__(self, job: Job, processes: int) -> None:
        self._aligner = Aligner(job.source, job.crop, processes)
        self._plans = PlanReader(open_storage(job.out))

    def __call__(self, envelope: pa.Table) -> pa.Table:
        ref: UnitRef = opened(envelope)
        try:
            return seal(ref.name, self._aligner(self._plans.read(ref)))
        except Exception as error:
            return seal(ref.name, failure(ref.name, error))


class _InvertStage:
    def __init__(self, job: Job) -> None:
        self._storage = open_storage(job.out)
        self._fingerprint = job.settings.fingerprint
        self._failure: Exception | None = None
        try:
            # Here, because only this process may pay for torch.
            from pipeline.inverter import Inverter

            self._inverter = Inverter(
                job.model,
                job.settings,
                device=job.device,
                batch_size=job.batch_size,
                threads=job.threads,
            )
        except Exception as error:
            # Raised here, it would only make Ray start the actor again and again.
            self._failure = error

    def __call__(self, envelope: pa.Table) -> pa.Table:
        aligned: AlignedUnit | Receipt = opened(envelope)
        if isinstance(aligned, Receipt):
            return envelope
        return seal(aligned.unit, self._receipt(aligned))

    def _receipt(self, aligned: AlignedUnit) -> Receipt:
        if self._failure is not None:
            return failure(aligned.unit, self._failure, fatal=True)
        try:
            inverted = self._inverter(aligned)
            record = write_unit(self._storage, inverted, self._fingerprint)
        except Exception as error:
            return failure(aligned.unit, error)
        return Receipt(aligned.unit, record, device=str(self._inverter.model.device))


def _sweep() -> None:
    """Remove what clusters of killed runs left."""
    for folder in Path(_FOLDERS).glob(f"{_FOLDER_PREFIX}*-*"):
        owner = folder.name.removeprefix(_FOLDER_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Keep Ray's native code from announcing its log level; errors come as exceptions."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _be_quiet() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = None
    # A worker's death costs its unit a retry by the run, not the whole job.
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
