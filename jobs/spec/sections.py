"""The sections of a job specification, whose fields are the options.

The command line takes names, types, help, defaults and limits from them
(:mod:`restyle.jobs.spec.options`), and ``restyle spec init`` takes comments from them. To add an
option, add a field here and read it where it is used.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from restyle.core.errors import SpecError
from restyle.core.imaging.encoding import ImageFormat
from restyle.core.metrics.registry import METRICS, check_metrics
from restyle.jobs.spec.values import InputFormat, MetricList, Pool, PublicUri, Spelled
from restyle.pipeline.execution.request import Executor, Workers
from restyle.pipeline.ledger.settings import (
    MAX_ITERATIONS,
    MAX_POLISH,
    MAX_SEED,
    MAX_STEPS,
    MAX_TOLERANCE,
    Detector,
    FacePolicy,
    Origin,
    Reconstructions,
    SaveSteps,
)
from restyle.pipeline.monitoring.monitor import LOOPBACK, Monitoring
from restyle.pipeline.monitoring.notification import check_recipient


class Section(BaseModel):
    """Base class of the sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InputSection(Section):
    """What is read."""

    source: Annotated[PublicUri, Spelled("INPUT")] = Field(
        min_length=1,
        description="A file, a folder (recursively), a glob, a shard or a list of URIs; a path or "
        "any fsspec URI.",
        examples=["photos"],
    )
    format: Annotated[InputFormat, Spelled("--input-format")] = Field(
        "auto",
        description="files takes every file for an image, tar and parquet for a shard of images, "
        "list for a list of URIs, other words for what other packages read; auto goes by the "
        "names.",
    )
    column: Annotated[str | None, Spelled(metavar="NAME")] = Field(
        None,
        min_length=1,
        description="The column of Parquet or CSV that holds images or URIs; the only one that "
        "can be meant.",
        examples=["image"],
    )
    landmarks: Annotated[PublicUri | None, Spelled(metavar="FILE")] = Field(
        None,
        min_length=1,
        description="Landmarks of faces that you have already, in Parquet, CSV or JSON, so that "
        "none are detected; a path or any fsspec URI.",
        examples=["ffhq-dataset-v2.json"],
    )
    allow_private_urls: bool = Field(
        False,
        description="Let entries of lists, and redirects, lead to this machine and its network.",
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Take only the first so many inputs; all by default.",
        examples=[1000],
    )
    max_reject_rate: float = Field(
        1.0, ge=0.0, le=1.0, description="Stop once a larger share of inputs is rejected."
    )


class OutputSection(Section):
    """What is kept, and where."""

    out: PublicUri = Field(
        min_length=1,
        description="Where latents, metrics and the report go: a folder or a URI.",
        examples=["inverted"],
    )
    save_steps: SaveSteps = Field(
        "metrics", description="What to keep of each step in the dataset steps."
    )
    reconstructions: Reconstructions = Field("last", description="Which steps' images to keep.")
    image_format: ImageFormat = Field(
        "png",
        description="File format of these images: png is lossless, jpeg and webp are smaller.",
    )


class ModelSection(Section):
    """What inverts."""

    name: Annotated[str, Spelled("--model")] = Field(
        "faces64",
        min_length=1,
        description="Embedded model, model directory (both with :ENCODER behind) or a .pt file.",
    )
    domain: Annotated[str | None, Spelled(metavar="NAME")] = Field(
        None,
        min_length=1,
        description="What a .pt file is for, such as faces, which are aligned, or cars; by default "
        "told from the file. FILE.pt:NAME as a model says the same.",
        examples=["faces"],
    )
    dtype: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto",
        description="Precision; auto is bf16 where the processor has it in hardware, tf32 is for "
        "GPUs.",
    )
    bootstrap: Annotated[str | None, Spelled(metavar="MODEL")] = Field(
        None,
        min_length=1,
        description="A model that takes the first step in the other's place, as in restyle "
        "toonify; none by default.",
        examples=["faces64"],
    )


class InversionSection(Section):
    """How it is inverted."""

    steps: int | None = Field(
        None,
        ge=1,
        le=MAX_STEPS,
        description="Refinement steps; by default 5, or 1 for a single-pass encoder.",
        examples=[5],
    )
    polish: int = Field(
        0,
        ge=0,
        le=MAX_POLISH,
        description="Steps of optimisation after the encoder's, which bring the image nearer to "
        "the input; 50 halve the error for a second a face of 64 pixels.",
    )
    best_step: Annotated[str | None, Spelled(metavar="METRIC")] = Field(
        None,
        min_length=1,
        description="Take the latent of the step that is best by this metric, of each image: "
        "lpips, l2, id or any other; by default the last step's.",
        examples=["lpips"],
    )
    tolerance: float | None = Field(
        None,
        ge=0.0,
        le=MAX_TOLERANCE,
        description="Stop refining an image once a step changes its pixels, which are in [-1, 1], "
        "by less than this on average; by default every image takes all steps.",
        examples=[0.01],
    )
    align: bool | None = Field(
        None,
        description="Find and align faces, or take each image whole; by default as the model was "
        "trained.",
        examples=[True],
    )
    faces: FacePolicy = Field("largest", description="Which faces of a photograph to invert.")
    detector: Detector | None = Field(
        None,
        description="hog searches coarse to fine and finds the faces of exact, dlib's detector at "
        "every size, in a fraction of its time; cnn also finds turned, dark and half hidden faces; "
        "auto is hog, and cnn where that finds none; by default hog, or as the output was begun.",
        examples=["hog"],
    )
    metrics: MetricList = Field(
        None,
        description=f"Any of {', '.join(METRICS)}; or none; by default those of the "
        "domain: all but psnr for faces.",
        examples=[["l2", "lpips"]],
    )

    identity_weights: Annotated[str | None, Spelled(metavar="FILE")] = Field(
        None,
        min_length=1,
        description="Weights of the face recogniser that measures id_similarity: IR-SE50 or "
        "CurricularFace, as published; by default the embedded one, dlib's.",
        examples=["model_ir_se50.pth"],
    )

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        try:
            return None if names is None else check_metrics(names)
        except SpecError as error:
            raise ValueError(str(error)) from error


class OptimizationSection(Section):
    """How latents are optimised, by restyle optimize."""

    start: Origin | None = Field(
        None,
        description="Start at the average latent, or at the last one of the encoder's steps; by "
        "default of restyle optimize the average.",
        examples=["average"],
    )
    iterations: int | None = Field(
        None,
        ge=0,
        le=MAX_ITERATIONS,
        description="Steps of gradient descent on the latent; by default 500. 0 leaves an "
        "encoder's latent as it is, for --pivotal.",
        examples=[500],
    )
    target_loss: float | None = Field(
        None,
        gt=0.0,
        allow_inf_nan=False,
        description="Stop optimising an image once its l2 and 0.8 of its LPIPS add up to this; by "
        "default every image takes all steps.",
        examples=[0.01],
    )
    pivotal: int = Field(
        0,
        ge=0,
        le=MAX_ITERATIONS,
        description="Steps of pivotal tuning: the generator is fine-tuned for each face around its "
        "latent, and its weights are kept. 350 are usual.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Of the noise and of the images that tuning preserves; 0 by default.",
        examples=[0],
    )
    noise: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Noise in the first latents, as a share of the latents' spread. The StyleGAN2 "
        "projector has 0.05; without it, optimisation ends nearer to the input.",
    )


class WorkersSection(Section):
    """Where it is computed, and by how many."""

    executor: Executor = Field(
        "auto",
        description="local for this process, ray for Ray's workers on this machine or on a "
        "cluster; auto is local for small jobs that ask for nothing that only a cluster has.",
    )

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Faces in work at once; by default what suits the model.",
        examples=[8],
    )
    address: Annotated[str | None, Spelled(metavar="ADDRESS")] = Field(
        None,
        description="A running Ray cluster: auto for the one that this machine belongs to, or "
        "HOST:PORT of its head; by default a cluster on this machine alone that ends with the "
        "run.",
        examples=["auto"],
    )
    align_actors: Pool = Field(
        None,
        description="Fewest and most alignment actors, MIN:MAX; by default what suits the cluster.",
        examples=[[2, 16]],
    )
    invert_actors: Pool = Field(
        None,
        description="Fewest and most inversion actors, MIN:MAX; by default what suits the cluster.",
        examples=[[1, 8]],
    )
    gpus_per_actor: float | None = Field(
        None,
        ge=0.0,
        description="GPUs that each inversion actor reserves; by default 1 where the "
        "device is a GPU and 0 elsewhere.",
        examples=[1.0],
    )

    @field_validator("device")
    @classmethod
    def _device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+", device):
            raise ValueError("should be auto, cpu, cuda or cuda:N")
        return device

    @field_validator("address")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None and not re.fullmatch(r"auto|[^/@\s]+:\d+", address):
            raise ValueError(
                "should be auto or HOST:PORT of a cluster's head; addresses with http:// are for "
                "restyle submit"
            )
        return address

    @field_validator("align_actors", "invert_actors")
    @classmethod
    def _ordered(cls, pool: tuple[int, int] | None) -> tuple[int, int] | None:
        if pool is not None and not 1 <= pool[0] <= pool[1]:
            raise ValueError("should be MIN:MAX with 1 <= MIN <= MAX")
        return pool

    def to_workers(self) -> Workers:
        """The section in the pipeline's form."""
        return Workers(
            address=self.address,
            align_actors=self.align_actors,
            invert_actors=self.invert_actors,
            gpus_per_actor=self.gpus_per_actor,
            executor=self.executor,
        )


class MonitoringSection(Section):
    """How it is watched from outside, and who is told of its end."""

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Offer the run's measures to Prometheus on this port while it lasts; 0 for any "
        "that is free. On a cluster Ray's own nodes offer them, too.",
        examples=[9464],
    )
    metrics_host: str = Field(
        LOOPBACK,
        min_length=1,
        description="Address to offer them on; whoever reaches it may read them.",
    )

    notify: Annotated[str | None, Spelled(metavar="URL|COMMAND")] = Field(
        None,
        min_length=1,
        description="Tell of the run's end, whether complete, failed or interrupted: a POST to an "
        "http(s) URL, or a command that gets the same JSON on standard input; env:NAME for a "
        "variable that holds either.",
        examples=["env:WEBHOOK"],
    )

    @field_validator("notify")
    @classmethod
    def _recipient(cls, text: str | None) -> str | None:
        try:
            if text is not None:
                check_recipient(text)
        except SpecError as error:
            raise ValueError(str(error)) from error
        return text

    def to_monitoring(self) -> Monitoring:
        """The section in the pipeline's form."""
        return Monitoring(self.metrics_port, self.metrics_host, self.notify)
