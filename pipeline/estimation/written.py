"""Bytes that a job writes."""

from __future__ import annotations

from restyle.core.metrics.bootstrap import Interval
from restyle.pipeline.estimation.figures import Scale, per_input
from restyle.pipeline.estimation.measurement import Measurement
from restyle.pipeline.estimation.population import Population
from restyle.pipeline.estimation.sample_run import SampleRun
from restyle.pipeline.ledger.datasets import REJECTS
from restyle.pipeline.ledger.entries import FOLDER
from restyle.pipeline.report.gallery import MAX_FACES


def dataset_bytes(population: Population, run: SampleRun, scale: Scale) -> dict[str, Interval]:
    """Bytes of each dataset: of its rows, and of the files of its units beyond them.

    Args:
        population: the inputs.
        run: over a sample of them.
        scale: from the sample to the whole.
    """
    units, beyond = run.units, run.beyond_rows
    files = scale.inputs / population.in_unit
    rejected = sum(sum(unit.rejects.values()) for unit in units) / scale.sampled
    written = {}
    for name, each in beyond.items():
        share = rejected if name == REJECTS else 1 - rejected
        # Units without a row of a dataset have no file of it.
        having = files * (1 - (1 - share) ** population.in_unit)
        rows = (unit.files[name] - each if name in unit.files else 0.0 for unit in units)
        written[name] = scale.total(per_input(rows, units), plus=having * each)
    return written


def other_bytes(population: Population, measured: Measurement, scale: Scale) -> float:
    """Bytes of the manifest and the entries of units, and of the run's records and report.

    Args:
        population: the inputs.
        measured: runs over samples of them.
        scale: from the last run's sample to the whole.
    """
    run, storage = measured.run, population.output.storage
    entries = sum(unit.entry for unit in run.units) / len(run.units)
    names = {unit.plan for unit in population.units}
    plans = sum(size for name, size in storage.sizes(FOLDER).items() if name in names)
    few, many = measured.first, run
    faces = many.faces / many.images * scale.inputs
    # The report grows with the faces that it shows.
    more = _shown(many.faces) - _shown(few.faces)
    each = max(0.0, (many.report - few.report) / more) if more > 0 else 0.0
    report = many.report + each * (_shown(faces) - _shown(many.faces))
    weight = scale.inputs / len(population.sizes)
    return entries * scale.inputs / population.in_unit + plans * weight + report


def _shown(faces: float) -> float:
    """Faces that a report shows of so many."""
    return min(MAX_FACES, faces)
