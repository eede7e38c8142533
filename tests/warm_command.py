"""Running ``restyle`` to its end in a process that need not import everything anew.

Most of the time of a short command is the import of Python modules. Here a process imports them
once, computes nothing and starts no thread, and forks for every command: its child is the command,
with an exit code, descriptors, a session and an environment of its own. What a command imports, and
the processes that a test stops or kills, are subjects of :mod:`tests.command`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from tests import command

_COMMAND = "restyle.jobs.cli"
_IMPORTED = (
    _COMMAND,
    *("duckdb", "pandas", "pyarrow.dataset", "pyarrow.parquet", "torch"),
    *("restyle.pipeline.inversion.run", "restyle.pipeline.inversion.inverter"),
    *("restyle.pipeline.evaluation.run", "restyle.pipeline.editing.edit"),
)
_MOST = 1 << 20
_PATIENCE = 900.0

# Read when they are needed; whatever else differs may be read during an import.
_READ_LATE = ("RESTYLE_", "AWS_", "PYTEST_")
_AT_START = dict(os.environ)


def restyle(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    wanted = {**os.environ, "COLUMNS": "200", **(env or {})}
    forks = _forks({k: v for k, v in wanted.items() if not k.startswith(_READ_LATE)})
    if forks is None:
        return command.restyle(*arguments, env=env)
    return forks.run([str(each) for each in arguments], wanted)


class _Forks:
    """The process that has imported everything.

    Args:
        environment: what it imports with.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=command.ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(
        self, arguments: list[str], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        (out, out_end), (error, error_end) = os.pipe(), os.pipe()
        request = json.dumps([arguments, environment]).encode()
        socket.send_fds(self._socket, [request], [out_end, error_end])
        os.close(out_end)
        os.close(error_end)
        pid = int(self._socket.recv(_MOST))
        limit = threading.Timer(_PATIENCE, os.kill, (pid, signal.SIGKILL))
        limit.start()
        try:
            with open(out) as output, open(error) as errors, ThreadPoolExecutor(1) as reader:  # noqa: PTH123
                told = reader.submit(errors.read)
                printed = output.read()
                told.result()
            status = int(self._socket.recv(_MOST))
        finally:
            limit.cancel()
        return subprocess.CompletedProcess(arguments, status, printed, told.result())

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


_forked: list[_Forks] = []
_asked: list[dict[str, str]] = []


def _forks(environment: dict[str, str]) -> _Forks | None:
    """Return the process with an environment, made anew when the one of the tests has changed.

    None for the environment of a single command, and where code runs at the start of processes.
    """
    code = {name for name, _ in environment.items() ^ _AT_START.items() if "PYTHON" in name}
    is_new = bool(_asked) and _asked[-1] != environment
    _asked[:] = [environment]
    if code or any(name.startswith("COVERAGE_") for name in environment):
        return None
    if _forked and _forked[0].environment != environment:
        if is_new:
            return None
        _forked.pop().close()
    if not _forked:
        _forked.append(_Forks(environment))
    return _forked[0]


@atexit.register
def _close() -> None:
    for each in _forked:
        each.close()


def _serve(requests: socket.socket) -> list[str] | None:
    """Fork for every request; return its arguments in the child, None at the end."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _MOST, 2)
        if not request:
            return None
        pid = os.fork()
        if not pid:
            requests.close()
            arguments: list[str]
            environment: dict[str, str]
            arguments, environment = json.loads(request)
            _become(descriptors, environment)
            return arguments
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(str(pid).encode())
        requests.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(descriptors: list[int], environment: dict[str, str]) -> None:
    os.setsid()
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)


def _main(descriptor: int) -> None:
    codes: list[int] = []
    # The first that is registered runs last.
    atexit.register(_leave, codes)
    for name in _IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1
    # The collector would touch, and so copy, the memory of all modules in each child.
    gc.freeze()
    arguments = _serve(socket.socket(fileno=descriptor))
    if arguments is None:
        return
    codes.append(1)
    # As ``python -m`` runs a module that nobody has imported.
    del sys.modules[_COMMAND]
    sys.argv = ["", *arguments]
    try:
        runpy.run_module(_COMMAND, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        codes[0] = int(end.code or 0)
        raise


def _leave(codes: list[int]) -> None:
    """End a command without taking all modules apart, which takes longer than most commands."""
    if codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):
        _main(int(sys.argv[1]))
