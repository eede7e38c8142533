"""``restyle submit``: run a specification as a job on a Ray cluster."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.errors import FatalError, SpecError, TransientError
from restyle.jobs.commands.look.inspection import AsJson
from restyle.jobs.display.terminal import emit_json, say, say_lines

if TYPE_CHECKING:
    from restyle.jobs.spec.job_spec import JobSpec
    from restyle.pipeline.execution.ray.job_server import JobServer, SubmittedJob

# Bounds of the polling interval in seconds, and the log characters fetched per second at most: each
# poll fetches the whole log, so a job with a long log is polled less often.
_SHORTEST, _LONGEST, _CHARACTERS = 1.0, 30.0, 50_000
# Seconds that a server may be unreachable while a job is followed.
_PATIENCE = 300.0
_STOPPED_WITHIN = 60.0
_TRIES = 5
_SUCCEEDED = "SUCCEEDED"


def submit(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC", help="A TOML file, see 'restyle spec init'.")
    ],
    address: Annotated[
        str,
        typer.Option(
            envvar="RAY_API_SERVER_ADDRESS",
            metavar="URL",
            help="Of the cluster's job server, such as http://head:8265.",
        ),
    ],
    follow: Annotated[
        bool, typer.Option(help="Show the job's log until it ends; Ctrl-C leaves it running.")
    ] = True,
    status: Annotated[
        bool,
        typer.Option(
            "--status",
            help="Submit nothing: say how the last submission stands. Exits with 1 if it failed or "
            "was stopped.",
        ),
    ] = False,
    as_json: AsJson = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Submit nothing: follow the last submission.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Submit nothing: end the last submission.")
    ] = False,
) -> None:
    """Run a specification on a Ray cluster; the job continues after this command ends.

    One job per output at a time: while one runs, another is refused.
    """
    from restyle.jobs.spec.file import read_spec
    from restyle.jobs.spec.options import NAMES

    if as_json and not status:
        raise SpecError("--json goes with --status")
    if status + attach + stop > 1:
        raise SpecError("--status, --attach and --stop exclude one another")
    job_spec = read_spec(spec, {}, NAMES)
    # Imported late: Ray's client is needed only for a valid specification.
    from restyle.pipeline.execution.ray.job_server import JobServer

    server = JobServer(address)
    again = f"restyle submit {spec} --address {server.address}"
    if status:
        job = _last(server, job_spec)
        _show(server, job, as_json)
        if job.has_ended and job.status != _SUCCEEDED:
            raise typer.Exit(1)
        return
    if stop:
        _stop(server, _last(server, job_spec))
        return
    if attach:
        job = _last(server, job_spec)
    else:
        job = _start(server, job_spec, again)
        if not follow:
            say(f"follow it with: {again} --attach", error=True)
            return
    _follow(server, job.submission, again)


def submission_prefix(out: str) -> str:
    """Return the common prefix of the ids of all submissions that write to one output."""
    from restyle.pipeline.storage.filesystem import absolute_path, local_path

    path = local_path(out)
    place = out.rstrip("/") if path is None else absolute_path(path)
    return f"restyle-{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}-"


def _start(server: JobServer, spec: JobSpec, again: str) -> SubmittedJob:
    """Submit a job, unless a job for the same output has not ended.

    A server accepts each id once. Submissions of one output are numbered, so of two concurrent
    submissions only one gets the next number; the other lists the jobs again and is refused.
    """
    from restyle.jobs.spec.options import command_line
    from restyle.pipeline.execution.ray.job_server import DuplicateError
    from restyle.pipeline.monitoring.notification import is_web

    notify = spec.monitoring.notify or ""
    if is_web(notify):
        raise SpecError(
            "--notify: the cluster's dashboard would show the URL; put it into a variable of the "
            "cluster's environment, and name that as in env:WEBHOOK"
        )
    prefix = submission_prefix(spec.output.out)
    command = command_line(spec, address="auto")
    for _ in range(_TRIES):
        earlier = server.jobs(prefix)
        for job in earlier:
            if not job.has_ended:
                raise SpecError(
                    f"{job.submission} is {job.status.lower()} since {job.started} and writes to "
                    f"{spec.output.out}; follow it with: {again} --attach, or end it with: "
                    f"{again} --stop"
                )
        number = 1 + max((_number(job.submission) for job in earlier), default=0)
        try:
            server.submit(f"{prefix}{number}", command, {"out": spec.output.out})
        except DuplicateError:
            continue
        say(f"{prefix}{number} submitted to {server.address}: {command}", error=True)
        _note_paths(spec)
        return server.job(f"{prefix}{number}")
    raise FatalError(f"{server.address} takes no number for {prefix}, though it lists none as used")


def _number(submission: str) -> int:
    number = submission.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _note_paths(spec: JobSpec) -> None:
    from restyle.pipeline.storage.filesystem import local_path

    paths = {"INPUT": spec.input.source, "OUT": spec.output.out}
    local = [f"{name} {path}" for name, path in paths.items() if local_path(path) is not None]
    if local:
        say(
            f"note: {' and '.join(local)} must be the same folder on every node of the cluster",
            error=True,
        )


def _last(server: JobServer, spec: JobSpec) -> SubmittedJob:
    jobs = server.jobs(submission_prefix(spec.output.out))
    if not jobs:
        raise SpecError(
            f"{server.address} knows of no submission that writes to {spec.output.out}; "
            "'restyle runs' tells of the runs that an output has had"
        )
    return jobs[-1]


def _show(server: JobServer, job: SubmittedJob, as_json: bool) -> None:
    lines = [line for line in server.log(job.submission).splitlines() if line.strip()]
    if as_json:
        emit_json(
            {
                "submission": job.submission,
                "status": job.status.lower(),
                "started": job.started,
                "ended": job.ended or None,
                "exit_code": job.exit_code,
                "message": job.message or None,
                "last_line": lines[-1] if lines else None,
            }
        )
        return
    times = f"{job.started} to {job.ended}" if job.ended else f"since {job.started}"
    say(f"{job.submission}: {job.status.lower()}, {times}")
    if job.message:
        say(job.message)
    if lines:
        say(f"last line: {lines[-1]}")


def _stop(server: JobServer, job: SubmittedJob) -> None:
    if not job.has_ended:
        server.stop(job.submission)
        until = time.monotonic() + _STOPPED_WITHIN
        while not job.has_ended and time.monotonic() < until:
            time.sleep(_SHORTEST)
            job = server.job(job.submission)
    if not job.has_ended:
        raise FatalError(f"{job.submission} was asked to stop and has not; look at --status")
    say(f"{job.submission}: {job.status.lower()}")


def _follow(server: JobServer, submission: str, again: str) -> None:
    from restyle.pipeline.listener import Interrupted

    try:
        job = _watch(server, submission, say_lines)
    except KeyboardInterrupt:
        raise Interrupted(
            f"no longer following; {submission} goes on. Follow it with: {again} --attach, end it "
            f"with: {again} --stop"
        ) from None
    except TransientError as error:
        raise FatalError(
            f"{error}; {submission} may well go on, follow it with: {again} --attach"
        ) from error
    if job.status == _SUCCEEDED:
        say(f"{submission}: succeeded", error=True)
        return
    raise FatalError(f"{submission} {job.status.lower()}: {job.message or 'no reason given'}")


def _watch(server: JobServer, submission: str, write: Callable[[str], None]) -> SubmittedJob:
    """Print a job's log as it grows until the job ends; return the ended job."""
    shown = 0
    reached = time.monotonic()
    while True:
        try:
            # The state is read first, so that the log of an ended job is complete.
            job = server.job(submission)
            log = server.log(submission)
        except TransientError as error:
            if time.monotonic() - reached > _PATIENCE:
                raise
            say(f"{error}; trying again", error=True)
            time.sleep(_LONGEST)
            continue
        reached = time.monotonic()
        write(log[shown:])
        shown = len(log)
        if job.has_ended:
            return job
        time.sleep(min(max(len(log) / _CHARACTERS, _SHORTEST), _LONGEST))
