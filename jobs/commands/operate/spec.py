"""``restyle spec``: create and check job specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.jobs.display.help import command, group
from restyle.jobs.display.terminal import emit, say

app = group("spec", "Make and check job specifications.")

SpecPath = Annotated[Path, typer.Argument(metavar="FILE", help="TOML; every option of invert.")]


@command(app, "init")
def init(file: SpecPath = Path("job.toml")) -> None:
    """Write a specification with every option explained, as a starting point."""
    from restyle.jobs.spec.file import example

    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(example())
    except FileExistsError as error:
        raise SpecError(f"{file} exists; give another name, it is not overwritten") from error
    except OSError as error:
        raise FatalError(f"{file} cannot be written: {reason_of(error)}") from error
    say(f"{file}: set source and out, then: restyle spec check {file}")


@command(app, "check")
def check(file: SpecPath) -> None:
    """Check a specification without reading its input, and print its meaning."""
    from restyle.jobs.spec.file import read_spec
    from restyle.jobs.spec.options import NAMES, command_line

    emit(command_line(read_spec(file, {}, NAMES)))
