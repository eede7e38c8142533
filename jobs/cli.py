"""The ``restyle`` command: subcommands, error messages and exit codes."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import sys
import threading
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from restyle.core.errors import RestyleError, reason_of
from restyle.jobs.commands.edit.directions import app as directions
from restyle.jobs.commands.edit.edit import edit
from restyle.jobs.commands.edit.latent_pictures import animate, interpolate, mix
from restyle.jobs.commands.invert.estimate import estimate
from restyle.jobs.commands.invert.invert import invert
from restyle.jobs.commands.invert.optimize import optimize
from restyle.jobs.commands.invert.plan import plan
from restyle.jobs.commands.invert.retry_rejects import retry_rejects
from restyle.jobs.commands.invert.toonify import toonify
from restyle.jobs.commands.look.coarse_to_fine import coarse_to_fine
from restyle.jobs.commands.look.evaluate import evaluate
from restyle.jobs.commands.look.inspection import verify
from restyle.jobs.commands.look.query import query
from restyle.jobs.commands.look.runs import runs
from restyle.jobs.commands.look.similar import similar
from restyle.jobs.commands.look.status import status
from restyle.jobs.commands.look.view import view
from restyle.jobs.commands.operate.bench import bench
from restyle.jobs.commands.operate.compact import compact
from restyle.jobs.commands.operate.export import export
from restyle.jobs.commands.operate.forget import forget
from restyle.jobs.commands.operate.index import index
from restyle.jobs.commands.operate.kernels import app as kernels
from restyle.jobs.commands.operate.repair import repair
from restyle.jobs.commands.operate.spec import app as spec
from restyle.jobs.commands.operate.submit import submit
from restyle.jobs.commands.train.convert import convert
from restyle.jobs.commands.train.train import app as train
from restyle.jobs.display import streams
from restyle.jobs.display.help import command, group
from restyle.jobs.display.terminal import say
from restyle.jobs.home import expand_variables, expanded
from restyle.pipeline.listener import Interrupted

FATAL = 2
INTERRUPTED = 130

_GROUPS: dict[str, dict[str, Any]] = {
    "Invert photographs": {
        "invert": invert,
        "optimize": optimize,
        "plan": plan,
        "estimate": estimate,
        "retry-rejects": retry_rejects,
        "toonify": toonify,
    },
    "Look at results": {
        "view": view,
        "status": status,
        "runs": runs,
        "verify": verify,
        "query": query,
        "similar": similar,
        "coarse-to-fine": coarse_to_fine,
        "evaluate": evaluate,
    },
    "Edit faces": {
        "edit": edit,
        "directions": directions,
        "interpolate": interpolate,
        "mix": mix,
        "animate": animate,
    },
    "Train models": {"train": train, "convert": convert},
    "Operate": {
        "submit": submit,
        "spec": spec,
        "compact": compact,
        "repair": repair,
        "export": export,
        "forget": forget,
        "index": index,
        "bench": bench,
        "kernels": kernels,
    },
}

app = group(
    "restyle",
    "Turn image collections into StyleGAN latents.",
    "Start with: restyle invert PHOTOS --out OUT, then restyle view OUT. "
    "restyle COMMAND -h explains a command.",
    completion=True,
)
for panel, commands in _GROUPS.items():
    for name, made in commands.items():
        if isinstance(made, typer.Typer):
            app.add_typer(made, name=name, rich_help_panel=panel)
        else:
            command(app, name, panel)(made)


def _version(wanted: bool) -> None:
    if wanted:
        say(importlib.metadata.version("restyle-pipeline"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 for success, also with rejects; 1 for problems found by ``verify``; 2 for any
    failure, with one line on standard error; 130 for Ctrl-C. A closed output stream changes none
    of them.
    """
    streams.settle()
    if not _stands_somewhere():
        _fail("the current directory does not exist any more; change into another one")
    expand_variables()
    try:
        code = app(args=expanded(sys.argv[1:]), standalone_mode=False)
        if code == INTERRUPTED:
            # typer's answer to Ctrl-C, where no run has turned it into a line of its own.
            raise KeyboardInterrupt
    except TyperException as error:
        _fail(_with_hint(error))
    except RestyleError as error:
        _fail(str(error))
    except OSError as error:
        # A full disk can also occur outside of the storage code, for example while printing.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        _fail(str(error))
    except (Interrupted, KeyboardInterrupt, typer.Abort) as stop:
        say(str(stop) or "interrupted", error=True)
        _exit(INTERRUPTED)
    _exit(code if isinstance(code, int) else 0)


def _stands_somewhere() -> bool:
    """Whether the current directory exists: paths are resolved against it, torch loads by it."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return False
    return True


def _with_hint(error: TyperException) -> str:
    """Return the message of a wrong command line, and which help has what is right."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    # What typer's choices put in front of their own message.
    message = message.replace(": Value error, ", ": ")
    if context is None:
        return message
    return f"{message.rstrip('.')}; see {context.command_path} --help"


def _fail(message: str) -> NoReturn:
    say("error: " + " ".join(message.split()), error=True)
    _exit(FATAL)


def _exit(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError as error:
        # Exits here, because the interpreter would flush again.
        say(f"error: standard output: {reason_of(error)}", error=True)
        os._exit(FATAL)
    if "ray" in sys.modules or threading.active_count() > 1:
        # Threads that are in native code meanwhile abort the process during the interpreter's
        # shutdown: those of an interrupted run when torch returns to Python, and Arrow's, which Ray
        # starts, when they release Python objects.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
