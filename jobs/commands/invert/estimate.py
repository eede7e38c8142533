"""``restyle estimate``: time, money, bytes and rejects of a job, from a sample of its input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.errors import SpecError
from restyle.jobs.commands.look.inspection import AsJson
from restyle.jobs.display.terminal import emit_json, error_console
from restyle.jobs.spec import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from restyle.pipeline.estimation.job_estimate import Estimate
    from restyle.pipeline.listener import Listener

_COUNT = re.compile("0*[1-9][0-9]{0,5}")
_LONGEST = 40

PricesFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Prices of machines in TOML, such as examples/prices.toml.",
        show_default=False,
    ),
]


@options.takes(
    "input",
    "model",
    "inversion",
    "optimization",
    "workers",
    "output.save_steps",
    "output.reconstructions",
    "output.image_format",
    without=["input.max_reject_rate"],
)
def estimate(
    context: typer.Context,
    spec: options.Spec = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Invert a sample for about so long.")
    ] = 20.0,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Inputs to invert, whatever it takes.", show_default=False),
    ] = None,
    sample_seed: Annotated[int, typer.Option(min=0, help="Of the drawing of the sample.")] = 0,
    counts: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of workers of each kind, and of machines.")
    ] = "1,4,16",
    prices: PricesFile = None,
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder or URI for the sample's rows, removed at the end; with --address one that "
            "every node reaches.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a job's hours, money, bytes and rejects by inverting a sample.

    The sample is drawn at random and inverted as the job would be, here or by the cluster at
    --address, into a temporary folder. What it took is told for the whole input, with intervals of
    95%. restyle invert --plan-only tells the same of the inputs that an output has not done.
    """
    request = options.spec_without_out(context, spec).request()
    numbers = _counts(counts)
    from restyle.pipeline.estimation.prices import read_prices

    known = None if prices is None else read_prices(prices)
    # Imported late, because the intervals need scipy.
    from restyle.pipeline.estimation.estimate import Wanted
    from restyle.pipeline.estimation.estimate import estimate as estimated
    from restyle.pipeline.estimation.measurement import Effort

    wanted = Wanted(Effort(seconds, sample, sample_seed, scratch), known, numbers)
    show(lambda listener: estimated(request, wanted, listener), as_json=as_json)


def show(make: Callable[[Listener], Estimate], *, as_json: bool = False) -> None:
    """Make an estimate with a progress display, and print it."""
    from restyle.jobs.commands.invert.estimate_tables import estimate_document, show_estimate
    from restyle.jobs.display.termination import EndableDisplay

    with error_console() as errors, EndableDisplay(errors, "measuring") as display:
        found = make(display)
    if as_json:
        emit_json(estimate_document(found))
    else:
        show_estimate(found)


def _brief(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _counts(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(_COUNT.fullmatch(word) for word in words):
        raise SpecError(
            f"--counts {_brief(text)} is no list of numbers from 1 to 999,999; "
            "use one such as 1,4,16"
        )
    return tuple(sorted({int(word) for word in words}))
