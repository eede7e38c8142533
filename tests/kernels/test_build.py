"""Building the libraries: once, whoever is first and whatever becomes of it; and doing without."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restyle.kernels import build, native, toolchain
from restyle.kernels.errors import KernelError, KernelWarning

ROOT = Path(__file__).resolve().parents[2]

# Counts its calls, one byte each: all processes together write into one file.
COMPILER = """#!/bin/sh
case "$*" in *--version*) echo "counting compiler"; exit 0;; esac
case "$*" in *" -c "*) printf x >> "{count}";; esac
{before}
exec g++ "$@"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESTYLE_KERNELS", raising=False)
    monkeypatch.setattr(native, "_loaded", {})
    return tmp_path / "cache"


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, before: str = "") -> Path:
    """A compiler of our own; returns the file that counts what it compiled."""
    path, count = folder / "my compiler", folder / "count"
    path.write_text(COMPILER.format(count=count, before=before))
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    # Only one small file, without optimisation: what is tested is not the compiler.
    monkeypatch.setattr(toolchain, "_CPU_FLAGS", ("-fPIC",))
    return count


BUILDER = """
import sys
from restyle.kernels import build
from restyle.kernels import toolchain
toolchain._CPU_FLAGS = ("-O0", "-std=c++17", "-fopenmp", "-fPIC")
print(build.ensure_built(toolchain.find("cpu")))
"""


def builders(count: int) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]


def test_eight_that_start_together_build_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = compiler(tmp_path, monkeypatch)
    answers = [process.communicate(timeout=300) for process in builders(8)]
    (library,) = {out.strip() for out, _ in answers}
    assert Path(library).is_file(), answers
    assert len(count.read_text()) == len(list(toolchain.SOURCES.glob("*.cpp")))
    assert sorted(path.name for path in Path(library).parent.iterdir()) == [
        "build.lock",
        "library.so",
    ]


def test_a_builder_that_is_killed_harms_nobody(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = tmp_path / "once"
    # The first call of the compiler hangs.
    hang = f'mkdir "{once}" 2>/dev/null && echo $$ > "{once}/pid" && exec sleep 600'
    count = compiler(tmp_path, monkeypatch, hang)
    (first,) = builders(1)
    while not (once / "pid").exists():
        assert first.poll() is None
        time.sleep(0.01)
    waiting = builders(2)
    first.kill()
    first.communicate()
    for process in waiting:
        out, errors = process.communicate(timeout=300)
        assert Path(out.strip()).is_file(), errors
    assert len(count.read_text()) >= len(list(toolchain.SOURCES.glob("*.cpp")))
    # The compiler outlived its killed parent.
    os.kill(int((once / "pid").read_text()), signal.SIGKILL)


def test_a_lock_that_is_never_freed_costs_patience_only(cache: Path) -> None:
    chain = toolchain.find("cpu")
    library = build.library_path(chain)
    library.parent.mkdir(parents=True)
    with (library.parent / "build.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert build.ensure_built(chain, patience=0.2) == library
    assert library.is_file()
    assert isinstance(native.library("cpu", "native"), native.Library)


def test_the_key_changes_with_all_that_shapes_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [toolchain.find("cpu").key]
    monkeypatch.setattr(toolchain, "_CPU_FLAGS", ("-O1",))
    keys.append(toolchain.find("cpu").key)
    compiler(tmp_path, monkeypatch)
    keys.append(toolchain.find("cpu").key)
    monkeypatch.setattr(toolchain, "processor", lambda: "another")
    keys.append(toolchain.find("cpu").key)
    sources = tmp_path / "csrc"
    sources.mkdir()
    monkeypatch.setattr(toolchain, "SOURCES", sources)
    keys.append(toolchain.find("cpu").key)
    (sources / "a.h").write_text("//")
    keys.append(toolchain.find("cpu").key)
    monkeypatch.setattr(toolchain.importlib.metadata, "version", lambda _: "0.0")
    keys.append(toolchain.find("cpu").key)
    assert len(set(keys)) == len(keys)


def test_a_broken_compiler_is_told_once_and_does_not_stop_anything(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(tmp_path, monkeypatch, 'echo "cc1plus: fatal error: it is Monday"; exit 1')
    with pytest.warns(KernelWarning, match="it is Monday"):
        assert native.library("cpu", "auto") is None
    # Warnings are errors: a second one would be seen.
    assert native.library("cpu", "auto") is None
    assert native.describe("cpu").startswith("reference: ")
    with pytest.raises(KernelError, match=r"my compiler failed: .*it is Monday"):
        native.library("cpu", "native")


def test_without_a_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(KernelWarning, match=r"no C\+\+ compiler: no-such-compiler not found"):
        assert native.describe("cpu").startswith("reference: no C++ compiler")
    monkeypatch.setenv("RESTYLE_KERNELS", "reference")
    assert native.describe("cpu") == "reference: asked for"
    monkeypatch.setenv("RESTYLE_KERNELS", "native")
    with pytest.raises(KernelError, match="install g\\+\\+ or set CXX"):
        native.describe("cpu")


def test_a_cache_that_others_can_write_is_not_trusted(cache: Path) -> None:
    (cache / "kernels").mkdir(parents=True)
    (cache / "kernels").chmod(0o777)
    with pytest.raises(KernelError, match="can be written by others; set RESTYLE_CACHE"):
        build.ensure_built(toolchain.find("cpu"))


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "file"))
    with pytest.raises(KernelError, match="the kernel cache"):
        build.ensure_built(toolchain.find("cpu"))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_cuda_compiles_for_every_architecture(cache: Path) -> None:
    library = build.ensure_built(toolchain.find("cuda"))
    functions = ctypes.CDLL(str(library))
    python = "".join(path.read_text() for path in Path(native.__file__).parent.glob("*.py"))
    # Convolutions of GPUs are cuDNN's, which has minimal filtering of its own.
    on_cpus = {"restyle_winograd", "restyle_colour_convolution"}
    for name in set(re.findall(r'"(restyle_\w+)"', python)) - on_cpus:
        assert hasattr(functions, name), f"{name} has no CUDA version"


def test_importing_builds_nothing(tmp_path: Path) -> None:
    code = (
        "import restyle.kernels.operators, restyle.core.networks.generator,"
        "restyle.core.inference.model"
    )
    environment = {**os.environ, "RESTYLE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=ROOT)
    assert not (tmp_path / "cache").exists()
