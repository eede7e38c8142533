"""``restyle kernels``: build the compiled operators ahead of time, as for a container image."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from restyle.core.errors import FatalError
from restyle.jobs.display.help import command, group
from restyle.jobs.display.terminal import emit, say

Target = Literal["cpu", "cuda", "hog"]

app = group("kernels", "Build the generator's compiled operators ahead of time.")

_Target = Annotated[
    Target, typer.Option("--device", help="Which of them: cpu, cuda, or hog, which finds faces.")
]


@command(app, "build")
def build(device: _Target = "cpu") -> None:
    """Build the operators into the cache unless they exist; print their path.

    They are built for this machine's processor and torch. Without this command they are built on
    first use.
    """
    from restyle.kernels.build import ensure_built
    from restyle.kernels.errors import KernelError
    from restyle.kernels.toolchain import find

    try:
        emit(str(ensure_built(find(device))))
    except KernelError as error:
        raise FatalError(str(error)) from error


@command(app, "status")
def status() -> None:
    """Show the compiler and state of the operators for each kind of device."""
    from restyle.kernels.build import library_path
    from restyle.kernels.errors import KernelError
    from restyle.kernels.toolchain import find

    targets: tuple[Target, ...] = ("cpu", "cuda", "hog")
    for target in targets:
        try:
            chain = find(target)
        except KernelError as error:
            plain = "dlib itself searches" if target == "hog" else "the plain operators are used"
            say(f"{target}: {plain}: {error}")
            continue
        library = library_path(chain)
        state = "built" if library.is_file() else "built on first use"
        say(f"{target}: {state}: {library}")
        say(f"  {chain.compiler} {' '.join(chain.flags)}")
