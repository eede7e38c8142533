"""``restyle optimize``: invert images by gradient descent."""

from __future__ import annotations

import typer

from restyle.jobs.spec import options
from restyle.jobs.spec.job_spec import JobSpec


@options.takes(*JobSpec.SECTIONS, without=options.NOT_OF_OPTIMIZE)
def optimize(context: typer.Context, spec: options.Spec = None) -> None:
    """Invert images by gradient descent on their latents, and on the generator with --pivotal.

    It is restyle invert with --start average, unless another start is given. So the same command
    again continues where it stopped, and edit, view, query and verify work on OUT.
    """
    from restyle.jobs.commands.invert.invert import run

    run(options.optimization_from(context, spec).request())
