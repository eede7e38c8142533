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
from collections.abc import Callable
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


def test_a_lock_that_is_never_freed_costs_patience_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "_CPU_FLAGS", ("-std=c++17", "-fPIC"))
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


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702])
@pytest.mark.parametrize("place", ["kernels", "kernels/KEY"])
def test_a_cache_that_a_group_can_write_is_not_trusted(cache: Path, place: str, mode: int) -> None:
    chain = toolchain.find("cpu")
    folder = cache / place.replace("KEY", chain.key)
    (cache / "kernels" / chain.key).mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(KernelError, match="can be written by others"):
        build.ensure_built(chain)


@pytest.mark.parametrize(("mode", "trusted"), [(0o777, False), (0o770, False), (0o1777, True)])
def test_the_folder_above_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, trusted: bool
) -> None:
    compiler(tmp_path, monkeypatch)
    cache.mkdir()
    cache.chmod(mode)
    if trusted:
        assert build.ensure_built(toolchain.find("cpu")).is_file()
    else:
        with pytest.raises(KernelError, match="can be written by others"):
            build.ensure_built(toolchain.find("cpu"))


def test_what_is_built_is_its_users_alone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(tmp_path, monkeypatch)
    before = os.umask(0o002)
    try:
        library = build.ensure_built(toolchain.find("cpu"))
    finally:
        os.umask(before)
    for path in (library, library.parent, library.parents[1]):
        assert path.stat().st_mode & 0o077 == 0


def truncated(library: Path, _: Path) -> None:
    os.truncate(library, library.stat().st_size // 3)


def emptied(library: Path, _: Path) -> None:
    library.write_bytes(b"")


def cut_by_a_byte(library: Path, _: Path) -> None:
    os.truncate(library, library.stat().st_size - 1)


def changed(library: Path, _: Path) -> None:
    with library.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xcc" * 16)


def appended(library: Path, _: Path) -> None:
    with library.open("ab") as file:
        file.write(b"more")


def of_an_earlier_version(library: Path, _: Path) -> None:
    os.truncate(library, library.stat().st_size - 55)


def writable_by_a_group(library: Path, _: Path) -> None:
    library.chmod(0o770)


def a_link(library: Path, elsewhere: Path) -> None:
    library.rename(elsewhere)
    library.symlink_to(elsewhere)


def of_another_user(library: Path, _: Path) -> None:
    os.chown(library, 12345, 12345)


DAMAGES = [truncated, emptied, cut_by_a_byte, changed, appended, of_an_earlier_version]
INTRUSIONS = [writable_by_a_group, a_link]
if os.getuid() == 0:
    INTRUSIONS.append(of_another_user)


@pytest.mark.parametrize("damage", DAMAGES + INTRUSIONS)
def test_a_library_that_is_not_what_was_built_is_built_again_once(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path, Path], None],
) -> None:
    count = compiler(tmp_path, monkeypatch)
    chain = toolchain.find("cpu")
    library = build.ensure_built(chain)
    whole, once = library.read_bytes(), len(count.read_text())
    # A copy: what is loaded must not be damaged under the process that loaded it.
    loaded = shutil.copy(library, tmp_path / "loaded.so")
    assert ctypes.CDLL(str(loaded)).restyle_winograd
    damage(library, tmp_path / "elsewhere")
    for _ in range(2):
        assert build.ensure_built(chain) == library
        assert len(count.read_text()) == 2 * once
    assert not library.is_symlink()
    assert library.read_bytes() == whole


def test_a_disk_that_damages_what_is_built_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = compiler(tmp_path, monkeypatch)
    monkeypatch.setattr(build, "seal", lambda library: os.truncate(library, 100))
    with pytest.raises(KernelError, match="damaged as soon as it is built; check the disk"):
        build.ensure_built(toolchain.find("cpu"))
    assert len(count.read_text()) == len(list(toolchain.SOURCES.glob("*.cpp")))


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("RESTYLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(KernelError, match="Set RESTYLE_CACHE"):
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
    on_cpus = {"restyle_winograd", "restyle_to_rgb_convolution"}
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
