"""``restyle verify``: prove from the files that every input is accounted for exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.display.terminal import emit_json, say

Out = Annotated[
    str, typer.Argument(metavar="OUT", help="Where restyle invert wrote: a folder or a URI.")
]
Written = Annotated[
    str,
    typer.Argument(
        metavar="OUT", help="Where restyle invert or restyle edit wrote: a folder or a URI."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]

_MOST_PROBLEMS = 50


def verify(
    out: Written,
    as_json: AsJson = False,
    forgotten: Annotated[
        bool,
        typer.Option(
            "--forgotten", help="Search all bytes for inputs that restyle forget removed, instead."
        ),
    ] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="With --forgotten: a whole name to search for as well; may be given again.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Verify from the files alone that every input is accounted for exactly once.

    Exits with 1 if it finds problems.
    """
    if forgotten or source:
        _verify_forgotten(out, source or (), as_json)
        return
    from restyle.pipeline.accounting.verify import verify as prove
    from restyle.pipeline.storage.addresses import shown_uri

    proof = prove(out)
    if as_json:
        emit_json(
            {
                "out": shown_uri(out),
                "clean": not proof.problems,
                "problems": list(proof.problems),
                "inputs": proof.images,
                "rejects": proof.rejects,
                "faces": proof.faces,
                "units": proof.units,
                "bytes": proof.size,
            }
        )
        raise typer.Exit(1 if proof.problems else 0)
    for problem in proof.problems[:_MOST_PROBLEMS]:
        say(problem)
    if len(proof.problems) > _MOST_PROBLEMS:
        say(f"and {len(proof.problems) - _MOST_PROBLEMS} more")
    say(
        f"{plural(proof.images, 'input')} = {proof.images - proof.rejects:,} with faces "
        f"+ {plural(proof.rejects, 'reject')}; {plural(proof.faces, 'face')}, "
        f"{plural(proof.units, 'unit')}, "
        f"{proof.size / 2**20:.1f} MiB read"
    )
    if proof.problems:
        say(
            f"{plural(len(proof.problems), 'problem')}; `restyle repair {shown_uri(out)}` says "
            "what can be done, and the command that made the output does again what is lost"
        )
        raise typer.Exit(1)
    say("clean")


def _verify_forgotten(out: str, sources: Sequence[str], as_json: bool) -> None:
    from restyle.pipeline.forgetting.forget import verify_forgotten
    from restyle.pipeline.storage.addresses import shown_uri

    done = verify_forgotten(out, sources)
    if as_json:
        emit_json(
            {
                "out": shown_uri(out),
                "clean": not done.found,
                "problems": done.found,
                "files": done.files,
                "bytes": done.size,
            }
        )
    else:
        for line in done.found:
            say(line)
        say(f"{plural(done.files, 'file')} searched, {done.size / 2**20:.1f} MiB")
        say(plural(len(done.found), "problem") if done.found else "clean")
    if done.found:
        raise typer.Exit(1)
