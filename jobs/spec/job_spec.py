"""Job specifications: the typed options of ``restyle invert``, also as a TOML file."""

from __future__ import annotations

from typing import Any, ClassVar

from restyle.core.networks.config import with_domain
from restyle.jobs.spec.sections import (
    InputSection,
    InversionSection,
    ModelSection,
    MonitoringSection,
    OptimizationSection,
    OutputSection,
    Section,
    WorkersSection,
)
from restyle.pipeline.execution.request import Request
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.sources.options import InputOptions


class JobSpec(Section):
    """A whole job."""

    input: InputSection
    output: OutputSection
    model: ModelSection = ModelSection()
    inversion: InversionSection = InversionSection()
    optimization: OptimizationSection = OptimizationSection()
    workers: WorkersSection = WorkersSection()
    monitoring: MonitoringSection = MonitoringSection()

    SECTIONS: ClassVar[dict[str, type[Section]]] = {
        "input": InputSection,
        "output": OutputSection,
        "model": ModelSection,
        "inversion": InversionSection,
        "optimization": OptimizationSection,
        "workers": WorkersSection,
        "monitoring": MonitoringSection,
    }

    def request(self) -> Request:
        """Return the job as a request to the pipeline."""
        workers, model = self.workers, self.model
        return Request(
            source=self.input.source,
            out=self.output.out,
            settings=InversionSettings(
                model=with_domain(model.name, model.domain) if model.domain else model.name,
                dtype=model.dtype,
                bootstrap=model.bootstrap,
                save_steps=self.output.save_steps,
                reconstructions=self.output.reconstructions,
                image_format=self.output.image_format,
                **self.inversion.model_dump(),
                **self.optimization.model_dump(),
            ),
            device=workers.device,
            batch_size=workers.batch_size,
            limit=self.input.limit,
            max_reject_rate=self.input.max_reject_rate,
            input=InputOptions(
                format=self.input.format,
                column=self.input.column,
                allow_private_urls=self.input.allow_private_urls,
                landmarks=self.input.landmarks,
            ),
            workers=workers.to_workers(),
            monitoring=self.monitoring.to_monitoring(),
        )

    def differing(self) -> dict[tuple[str, str], Any]:
        """Values of all fields that differ from their default, by section and name."""
        return {
            (section, name): value
            for section, kind in self.SECTIONS.items()
            for name, field in kind.model_fields.items()
            if (value := getattr(getattr(self, section), name)) != field.default
        }
