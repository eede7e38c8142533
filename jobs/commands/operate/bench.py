"""``restyle bench``: measure the speed of inversion, or of alignment, on this machine."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.core.shown_text import plural
from restyle.jobs.display.terminal import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from restyle.core.bench.measure import Bench, Finding, Plan, Row


def bench(
    model: Annotated[str, typer.Option(help="An embedded model or a model directory.")] = "faces64",
    shape: Annotated[
        str | None,
        typer.Option(
            help="Random weights in a published shape instead: faces1024 or church256.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="LIST", help="fp32, bf16, tf32 on a GPU.")
    ] = "fp32,bf16",
    batch: Annotated[str, typer.Option(metavar="LIST", help="Images at once.")] = "1,4",
    steps: Annotated[int, typer.Option(min=1, max=100, help="Of refinement.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of everything.")] = 5,
    reference: Annotated[
        bool, typer.Option(help="Measure the plain implementation too, which takes longest.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of the processor; by default all.", show_default=False),
    ] = None,
    cpu_time: Annotated[
        bool,
        typer.Option(
            "--cpu-time", help="Count the processor's time: on a shared machine, with --threads 1."
        ),
    ] = False,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="INPUT",
            help="Time the alignment of photographs instead, against the published recipe.",
            show_default=False,
        ),
    ] = None,
    detector: Annotated[str, typer.Option(help="Of --align: what is timed.")] = "hog",
    faces: Annotated[str, typer.Option(help="Of --align: largest or all.")] = "largest",
    seconds: Annotated[
        float, typer.Option(min=0, help="Of --align: begin no photograph after these.")
    ] = 300,
    limit: Annotated[int, typer.Option(min=1, help="Of --align: photographs.")] = 1_000_000,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything here too.")
    ] = None,
) -> None:
    """Time encoder, synthesis and whole loop against a plain implementation in float32.

    The table also shows two bounds: "floor" is the time of the convolutions' arithmetic at the
    highest rate measured (on a GPU that of a large matrix product, or of a copy for memory
    traffic); "bare" is the sum of the convolutions, each timed on its own in its fastest
    formulation. With --align, photographs are aligned by a detector and by the published recipe, of
    every class of size in turn, and speed, stages, faces and crops of both are compared; "decode/s"
    is the bound of decoding alone.
    """
    # Report invalid options before the slow import of torch and the measurements.
    dtypes, batches = _dtypes(dtype), [_count(each) for each in batch.split(",")]
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise SpecError(f"--json {json_file}: there is no such folder; make it first")
    if align is not None:
        from restyle.jobs.commands.operate.bench_align import bench_alignment, crop_settings

        settings = crop_settings(faces, detector)
        found = bench_alignment(align, settings, seconds=seconds, limit=limit, repeats=repeats)
        _write(json_file, found)
        return

    import torch

    from restyle.core.bench.measure import Plan

    plan = Plan(
        dtypes=dtypes,
        batches=batches,
        steps=steps,
        repeats=repeats,
        reference=reference,
        device=device,
        cpu_time=cpu_time,
    )
    if threads is not None:
        torch.set_num_threads(threads)
    shown, before = console(soft_wrap=False), os.getloadavg()[0]
    made, findings = _measure(shown, model, shape, plan)
    result = _result(shape or model, plan, made, findings, (before, os.getloadavg()[0]))
    shown.print(result["title"])
    shown.print(_table(findings))
    for line in result["lines"]:
        shown.print(line)
    _write(json_file, result)


def _write(json_file: Path | None, result: dict[str, Any]) -> None:
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise FatalError(f"{json_file} cannot be written: {reason_of(error)}") from error


def _measure(
    shown: Console, model: str, shape: str | None, plan: Plan
) -> tuple[Bench, list[Finding]]:
    from restyle.core.bench.measure import Bench
    from restyle.core.bench.random_model import write_random_model
    from restyle.core.networks.config import find_model

    with tempfile.TemporaryDirectory(prefix="restyle-bench-") as folder:
        if shape is None:
            directory, encoder = find_model(model)
            if not directory.is_dir():
                raise SpecError(f"{model} is a file; make a directory of it with 'restyle convert'")
        else:
            directory, encoder = write_random_model(shape, Path(folder) / shape), None
        made, findings = Bench(directory, encoder, plan), []
        for finding in made.findings():
            findings.append(finding)
            first = finding.rows[0]
            what = f"{first.path}, {first.dtype}, batch {first.batch}"
            shown.print(f"measured: {what}", style="dim")
    return made, findings


def _dtypes(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ("fp32", "tf32", "bf16"):
            raise SpecError(f"--dtype {name!r} is unknown; use a list such as fp32,bf16,tf32")
    return names


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise SpecError(f"--batch {text!r} is no number of images; use a list such as 1,4")
    return int(text)


def _table(findings: list[Finding]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "path", "dtype"):
        table.add_column(heading, no_wrap=True)
    for heading in ("batch", "ms/image", "spread", "floor", "reached", "x bare"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [row for finding in findings for row in finding.rows]
    for stage in dict.fromkeys(row.stage for row in rows):
        for row in rows:
            if row.stage == stage:
                table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    median, seconds = row.timing.median, row.timing.seconds
    return [
        row.stage,
        row.path,
        row.dtype,
        str(row.batch),
        f"{median * 1000:.1f}",
        f"{(max(seconds) - min(seconds)) / median:.0%}",
        f"{row.floor * 1000:.1f}",
        f"{row.floor / median:.0%}",
        "-" if row.bare is None else f"{median / row.bare:.2f}",
    ]


def _result(
    name: str, plan: Plan, made: Bench, findings: list[Finding], load: tuple[float, float]
) -> dict[str, Any]:
    import torch

    from restyle.core.bench.summary import summary
    from restyle.core.devices.hardware import choose_device

    device = choose_device(plan.device)
    what = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} threads, load {load[0]:.1f} to {load[1]:.1f}"
    )
    if plan.cpu_time:
        what += ", processor time"
    peaks = ", ".join(f"{dtype} {rate.flops / 1e12:.2f}" for dtype, rate in made.peaks.items())
    copied = next((rate.bytes for rate in made.peaks.values() if rate.bytes), None)
    if copied is not None:
        peaks += f"; copy: {copied / 1e12:.2f} TB/s"
    return {
        "title": f"{name}, {plural(made.steps, 'step')}, {device}: {what}; peak TFLOP/s: {peaks}",
        "torch": torch.__version__,
        "cpu_time": plan.cpu_time,
        "load": load,
        "peak_flops": {dtype: rate.flops for dtype, rate in made.peaks.items()},
        "copied_bytes": copied,
        "rows": [
            {
                "stage": row.stage,
                "path": row.path,
                "dtype": row.dtype,
                "batch": row.batch,
                "seconds": row.timing.seconds,
                "median": row.timing.median,
                "floor": row.floor,
                "bare": row.bare,
            }
            for finding in findings
            for row in finding.rows
        ],
        "lines": summary(findings),
    }
