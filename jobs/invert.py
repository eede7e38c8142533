"""``restyle invert``."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from pipeline.request import Request
from pipeline.settings import (
    MAX_STEPS,
    FacePolicy,
    InversionSettings,
    Reconstructions,
    SaveSteps,
)
from restyle_core.metric_names import METRICS, check_metrics


def invert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A file, a folder (recursively) or a glob; a path or any fsspec URI.",
        ),
    ],
    out: Annotated[
        str, typer.Option(help="Where latents, metrics and the report go: a folder or a URI.")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Embedded model, model directory (both with :ENCODER behind) or a .pt file."
        ),
    ] = "faces64",
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_STEPS, help="Refinement steps; 5, or 1 for a single-pass encoder."
        ),
    ] = None,
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Find and align faces, or take each image whole; as the model was trained.",
        ),
    ] = None,
    faces: Annotated[
        FacePolicy, typer.Option(help="Which faces of a photograph to invert.")
    ] = "largest",
    save_steps: Annotated[
        SaveSteps, typer.Option(help="What to keep of each step in the dataset steps.")
    ] = "metrics",
    reconstructions: Annotated[
        Reconstructions, typer.Option(help="Which steps' images to keep.")
    ] = "last",
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help=f"Comma-separated: {', '.join(METRICS)}; or none. All but psnr by default.",
        ),
    ] = None,
    dtype: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="Precision; auto is bf16 where the processor has it in hardware."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Faces in work at once; what suits the model.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only the first so many inputs.")
    ] = None,
    max_reject_rate: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Stop once a larger share of inputs is rejected."),
    ] = 1.0,
) -> None:
    """Invert images into latents, with reconstructions and metrics, as Parquet.

    The same command again continues where it stopped, and takes in only what is new.
    """
    from rich.console import Console

    from jobs.progress import ProgressDisplay, duration
    from jobs.tables import show_summary
    from pipeline.run import invert_images

    request = Request(
        source=source,
        out=out,
        settings=InversionSettings(
            model=model,
            steps=steps,
            align=align,
            faces=faces,
            save_steps=save_steps,
            reconstructions=reconstructions,
            metrics=None if metrics is None else _metrics(metrics),
            dtype=dtype,
        ),
        device=device,
        batch_size=batch_size,
        limit=limit,
        max_reject_rate=max_reject_rate,
    )
    # A descriptor of its own: standard error is closed while Ray starts.
    with (
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as error_stream,
        ProgressDisplay(Console(file=error_stream)) as display,
    ):
        outcome = invert_images(request, display)
    lines = [("report", outcome.report)]
    if outcome.images:
        lines.insert(0, ("this run", f"{outcome.images} inputs in {duration(outcome.seconds)}"))
    show_summary(Console(soft_wrap=True), outcome.summary, lines)


def _metrics(names: str) -> tuple[str, ...]:
    if names.strip() == "none":
        return ()
    return check_metrics(name.strip() for name in names.split(",") if name.strip())
