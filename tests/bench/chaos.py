"""Random kills over one job, and the count of what they cost.

Run ``python -m tests.bench.chaos``. A cluster of several small nodes on this machine runs one job
of ``restyle invert`` while, at random moments, something is ended with SIGKILL: a child that
decodes, an alignment worker, an inversion worker, the driver, or a whole node with everything on
it. A dead node is replaced, except where it is lost for good, and after a driver's death the same
command is given again. Workers are also told to exit, which Ray does not take for a crash, and are
stopped for two minutes in which they neither work nor die. Nothing else is done. In the end every
image must stand in the latents once, ``restyle verify`` must be content, no committed unit may have
been written again, and no unit may have been computed once more without having been in work when
something that computes was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from restyle.pipeline.accounting.verify import verify
from tests.bench.ledger_watch import LOOK_SECONDS, LedgerWatch
from tests.cluster_of_nodes import ClusterOfNodes
from tests.command import restyle
from tests.faults.running_job import Kind, RunningJob, entries
from tests.tiny_model import make_tiny_model

UNIT = 8
_PLAN_AT_ONCE = 32 * UNIT
"""So many new inputs are planned as units of eight."""

# How often each is killed beside the others.
WEIGHTS = {
    "child": 6,
    "align": 5,
    "invert": 5,
    "driver": 1,
    "node": 2,
    "exit": 3,
    "lost node": 1,
    "stopped": 1,
}

# Of the units, that are about done by the last kill.
_SHARE = 0.9

# Kills that may be ahead of the commits. More, where a restart takes longer than the time between
# two kills, and nothing would ever be committed; fewer, and none would hit a job that starts.
_AHEAD = 4

# What computes units dies with these; the others only read and decode.
DEADLY = ("invert", "driver", "node", "exit", "lost node", "stopped")

_STOPPED_SECONDS = 120.0

# That are left when no more are lost for good.
_LEAST_NODES = 2


class Chaos:
    """One job and what happens to it.

    Args:
        command: of the job.
        cluster: that it runs on.
        chance: decides.
        units: of the job.
        every: mean seconds between two kills; kills nevertheless keep pace with the commits.
        stuck: seconds without a kill and a commit that mean that the job hangs.
    """

    def __init__(
        self,
        command: Sequence[object],
        cluster: ClusterOfNodes,
        chance: random.Random,
        *,
        units: int,
        every: float,
        stuck: float,
    ) -> None:
        self._command = command
        self._cluster = cluster
        self._chance = chance
        self._units = units
        self._every = every
        self._stuck = stuck
        self.kills: Counter[str] = Counter()
        self.stakes: Counter[str] = Counter()
        self.most_at_stake = 0
        self.starts = 0
        self.gave_up: list[str] = []
        self._job = self._start()
        self.ledger = LedgerWatch(self._job.out)
        self._moved = (0, time.monotonic())

    def run(self, kills: int, until: float) -> bool:
        """Kill until it is enough or the time is over, then let the job end.

        Returns:
            Whether the job was still at work after the last kill.
        """
        for number in range(1, kills + 1):
            if time.monotonic() > until:
                break
            pause = time.monotonic() + self._chance.uniform(0, 2 * self._every)
            per_kill = _SHARE * self._units / kills
            # The job must not end before the kills do, however fast the machine is, and must get
            # on between them, however slow it is.
            least, most = (number - _AHEAD) * per_kill, number * per_kill
            kind = self._draw()
            while self._is_early(pause, least, most) or self._victim(kind) is None:
                # While a job starts there is nothing of some kinds to be killed, and once
                # everything is read ahead there never is again.
                if self._is_complete():
                    return False
                if len(self.ledger.written) > most:
                    kind = self._draw()
                time.sleep(0.05)
            self._kill(kind)
        while not self._is_complete():
            time.sleep(0.2)
        return True

    def _draw(self) -> str:
        return self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]

    def _is_early(self, pause: float, least: float, most: float) -> bool:
        done = len(self.ledger.written)
        return done < least or (time.monotonic() < pause and done < most)

    def close(self) -> None:
        """End the job, wherever it is."""
        self._job.__exit__(None, None, None)
        self.ledger.close()

    def _start(self) -> RunningJob:
        self.starts += 1
        return RunningJob(self._command, self._cluster.processes)

    def _is_complete(self) -> bool:
        """Whether the job is; a driver that ended otherwise is started again."""
        code = self._job.process.poll()
        if code == 0:
            return True
        if code is not None:
            _, printed = self._job.process.communicate()
            self.gave_up.append(f"exit code {code}: {printed.strip().splitlines()[-1:]}")
            print(f"  the driver gave up, {self.gave_up[-1]}", flush=True)
            if len(self.gave_up) > 10:
                raise SystemExit("the driver gives up again and again")
            self._job = self._start()
        done = len(self.ledger.written)
        if done != self._moved[0]:
            self._moved = (done, time.monotonic())
        elif time.monotonic() - self._moved[1] > self._stuck:
            raise SystemExit(f"nothing was committed for {self._stuck:g} s, {done} units are")
        return False

    def _kill(self, kind: str) -> None:
        end = self._victim(kind)
        if end is None:
            return
        computing = self._job.workers("invert")
        at_stake = self.ledger.look()
        end()
        if kind == "driver":
            self._job.process.wait()
            self._job = self._start()
            # What the dead driver's workers begin before they are ended is at stake, too.
            deadline = time.monotonic() + self._stuck
            while any(process.is_running() for process in computing):
                if time.monotonic() > deadline:
                    raise SystemExit("workers outlive their driver")
                at_stake |= self.ledger.look()
                time.sleep(LOOK_SECONDS)
        if kind in DEADLY:
            at_stake |= self.ledger.look()
            self.ledger.at_stake.update(at_stake)
            self.stakes[kind] += len(at_stake)
            self.most_at_stake = max(self.most_at_stake, len(at_stake))
        if kind == "node":
            self._cluster.add(wait=False)
        self.kills[kind] += 1
        self._moved = (len(self.ledger.written), time.monotonic())
        count = sum(self.kills.values())
        print(f"  {count}: {kind}, {len(self.ledger.written)} units are done", flush=True)

    def _victim(self, kind: str) -> Callable[[], object] | None:
        if kind == "driver":
            return self._job.process.kill
        if kind in ("node", "lost node"):
            if kind == "lost node" and len(self._cluster.nodes) <= _LEAST_NODES:
                return None
            node = self._chance.choice(self._cluster.nodes)
            return lambda: self._cluster.kill(node)
        ways: dict[str, tuple[Kind, Callable[[psutil.Process], None]]] = {
            "child": ("child", psutil.Process.kill),
            "align": ("align", psutil.Process.kill),
            "invert": ("invert", psutil.Process.kill),
            "exit": ("invert", psutil.Process.terminate),
            "stopped": ("invert", stop_for_a_while),
        }
        group, way = ways[kind]
        workers = self._job.workers(group)
        if not workers:
            return None
        worker = self._chance.choice(workers)

        def end() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                way(worker)

        return end


def stop_for_a_while(worker: psutil.Process) -> None:
    """Stop a process, and let it go on after two minutes, unless it was ended meanwhile."""

    def resume() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()

    worker.suspend()
    timer = threading.Timer(_STOPPED_SECONDS, resume)
    timer.daemon = True
    timer.start()


def make_images(folder: Path, count: int) -> None:
    """Small pictures, no two alike."""
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")


def plan(folder: Path, out: Path, images: int) -> None:
    """Plan the job bit by bit, as a folder that grows would be, which gives many small units."""
    for limit in range(_PLAN_AT_ONCE, images + _PLAN_AT_ONCE, _PLAN_AT_ONCE):
        planned = restyle("plan", folder, "--out", out, "--limit", min(limit, images))
        if planned.returncode:
            raise SystemExit(planned.stderr)


def judge(chaos: Chaos, out: Path, images: int) -> list[str]:
    """What is wrong with the result."""
    faults = list(verify(str(out)).problems)
    latents = pd.read_parquet(out / "latents", columns=["image_id", "face", "source"])
    wanted = {f"{index:05d}.png" for index in range(images)}
    found = Counter(Path(source).name for source in latents.source)
    if set(found) != wanted or set(found.values()) != {1}:
        twice = sum(count > 1 for count in found.values())
        faults.append(f"{len(wanted - set(found))} images are missing, {twice} stand twice")
    ledger = chaos.ledger
    now = entries(out)
    again = [name for name, when in ledger.written.items() if now.get(name) != when]
    if again:
        faults.append(f"{len(again)} committed units were written again, as {again[0]}")
    for unit, count in ledger.tries.items():
        if count - 1 > ledger.at_stake[unit]:
            faults.append(
                f"unit {unit} was begun {count} times, though it was in work at only "
                f"{ledger.at_stake[unit]} kills"
            )
    return faults


def show(chaos: Chaos, images: int, seconds: float, faults: Sequence[str], seed: int) -> None:
    """Print the table."""
    ledger = chaos.ledger
    redone = sum(count - 1 for count in ledger.tries.values())
    units = sum(count > 1 for count in ledger.tries.values())
    print(f"\n| killed | times | units in work at these moments |\n| {'--- | ' * 3}")
    for kind in WEIGHTS:
        at_stake = str(chaos.stakes[kind]) if kind in DEADLY else "none is computed there"
        print(f"| {kind} | {chaos.kills[kind]} | {at_stake} |")
    total, at_stake = sum(chaos.kills.values()), sum(chaos.stakes.values())
    print(f"| all | {total} | {at_stake}, at most {chaos.most_at_stake} at once |")
    print(f"\n| of one job | |\n| {'--- | ' * 2}")
    print(f"| images, units | {images}, {len(ledger.written)} |")
    print(f"| computations begun once more | {redone}, in {units} units |")
    print(f"| of a unit at most | {max(ledger.tries.values(), default=0)} |")
    print(f"| drivers started | {chaos.starts} |")
    print(f"| drivers that gave up | {len(chaos.gave_up)} |")
    print(f"| verify, every image once, nothing written twice | {'; '.join(faults) or 'clean'} |")
    cores = len(os.sched_getaffinity(0))
    print(
        f"\n{seconds / 60:.1f} minutes, seed {seed}, {cores} cores, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f} at the end"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--units", type=int, help="of the job; default: 2 for each kill")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="so that a unit takes a second")
    parser.add_argument(
        "--every",
        type=float,
        default=3.0,
        help="mean seconds between kills, while commits keep pace",
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="after which nothing is killed")
    parser.add_argument("--stuck", type=float, default=300.0, help="seconds that mean a hang")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--keep", action="store_true", help="leave the output for a look at it")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    images, out = UNIT * (options.units or 2 * options.kills), folder / "out"
    model = make_tiny_model(folder / "tiny")
    make_images(folder / "images", images)
    plan(folder / "images", out, images)
    job = ["invert", folder / "images", "--out", out, "--model", model, "--batch-size", 1]
    job += ["--no-align", "--metrics=none", "--reconstructions=none", "--dtype=fp32"]
    with ClusterOfNodes(options.nodes) as cluster:
        job += ["--device=cpu", "--steps", options.steps, "--address", cluster.address]
        chaos = Chaos(
            job,
            cluster,
            random.Random(options.seed),
            units=images // UNIT,
            every=options.every,
            stuck=options.stuck,
        )
        started = time.monotonic()
        try:
            was_at_work = chaos.run(options.kills, started + 60 * options.minutes)
        finally:
            chaos.close()
    seconds = time.monotonic() - started
    faults = judge(chaos, out, images)
    show(chaos, images, seconds, faults, options.seed)
    if options.keep:
        print(folder)
    else:
        shutil.rmtree(folder)
    if not was_at_work:
        sys.exit("the job was done before the last kill; give it more --units")
    if faults or chaos.gave_up:
        sys.exit(1)


if __name__ == "__main__":
    main()
