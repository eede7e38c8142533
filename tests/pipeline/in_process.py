"""An engine without Ray and without child processes, for tests of everything around them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from restyle.core.errors import FatalError, RejectError
from restyle.pipeline.decoding.sandbox import CropSettings, Outcome, read_crops
from restyle.pipeline.execution.job import UnitResult
from restyle.pipeline.inversion import aligner
from restyle.pipeline.inversion.inverter import Inverter
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.ledger.commit import write_unit
from restyle.pipeline.ledger.manifest import PlanReader, UnitRef
from restyle.pipeline.storage.filesystem import open_storage


class DirectCropper:
    def __init__(self, settings: CropSettings) -> None:
        self._settings = settings

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __call__(self, files: Sequence[bytes]) -> list[Outcome]:
        return [self._outcome(data) for data in files]

    def _outcome(self, data: bytes) -> Outcome:
        try:
            return read_crops(data, self._settings)
        except RejectError as error:
            return error


@contextlib.contextmanager
def in_process() -> Iterator[Callable[[InversionJob, Sequence[UnitRef]], Iterator[UnitResult]]]:
    yield run_units


def run_units(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
    isolated, aligner.IsolatedCropper = aligner.IsolatedCropper, DirectCropper  # type: ignore[misc]
    try:
        align = aligner.Aligner(job.source, job.crop, 1)
    finally:
        aligner.IsolatedCropper = isolated  # type: ignore[misc]
    invert = Inverter(
        job.model,
        job.settings,
        device=job.device,
        batch_size=job.batch_size,
        threads=1,
        bootstrap=job.bootstrap,
        identity_weights=job.identity_weights,
    )
    storage = open_storage(job.out)
    plans = PlanReader(storage)
    try:
        for unit in units:
            try:
                record = write_unit(
                    storage, invert(align(plans.read(unit))), job.settings.fingerprint
                )
            except FatalError as error:
                yield UnitResult(unit.name, error=str(error), fatal=True)
            else:
                yield UnitResult(unit.name, record, worker_info=invert.worker_info)
    finally:
        align.close()
        invert.close()
