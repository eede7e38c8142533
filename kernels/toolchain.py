"""Compilers and flags of the operators, and the cache key of the result."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from restyle.kernels.errors import KernelError

Target = Literal["cpu", "cuda", "hog"]
"""Operators for CPU and GPU, and the scan for faces, which needs no torch."""

SOURCES = Path(__file__).with_name("csrc")

_CPU_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-fvisibility=hidden"),
    *("-fno-math-errno", "-fno-trapping-math"),
)
_OPERATOR_FLAGS = ("-fopenmp", "-ffp-contract=fast")
# Pixels are rounded as dlib rounds them, which a fused multiply-add would not do.
_SCAN_FLAGS = ("-ffp-contract=off",)
# GCC uses vectors of half the size for processors it does not know.
_WIDE = "-mprefer-vector-width=512"
_CUDA_FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden")

ARCHITECTURES = ("80", "90", "100")
"""CUDA architectures to compile machine code for, if the compiler supports them; later ones use the
PTX of the newest."""


@dataclass(frozen=True)
class Toolchain:
    """Compiler, flags and sources of one library.

    Attributes:
        target: ``cpu``, ``cuda`` or ``hog``.
        compiler: path of the compiler.
        version: output of ``--version``.
        flags: for compiling.
        link_flags: for linking.
        sources: file names in :data:`SOURCES`.
    """

    target: Target
    compiler: str
    version: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def key(self) -> str:
        """Digest in 32 hex digits of everything that determines the library."""
        digest = hashlib.sha256()
        for part in (self.target, self.compiler, self.version, *self.flags, *self.link_flags):
            digest.update(part.encode() + b"\0")
        # The library shares torch's OpenMP threads.
        digest.update(f"{importlib.metadata.version('torch')}\0{processor()}\0".encode())
        for file in sorted(SOURCES.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:32]


def find(target: Target) -> Toolchain:
    """The toolchain of this machine.

    Raises:
        KernelError: there is no compiler, or it does not run.
    """
    if target == "cuda":
        return _cuda()
    if target == "hog":
        return _cxx(target, _SCAN_FLAGS, ("hog.cc", "resample.cc"))
    sources = tuple(sorted(file.name for file in SOURCES.glob("*.cpp")))
    # Not linked with OpenMP: symbols resolve to torch's OpenMP, so that threads are shared.
    return _cxx(target, _OPERATOR_FLAGS, sources)


def _cxx(target: Target, flags: tuple[str, ...], sources: tuple[str, ...]) -> Toolchain:
    wanted = os.environ.get("CXX")
    # GCC first: torch's wheels bring its OpenMP, and not clang's.
    names = [wanted] if wanted else ["g++", "c++", "clang++"]
    compiler = _first(names)
    if compiler is None:
        raise KernelError(f"no C++ compiler: {', '.join(names)} not found; install g++ or set CXX")
    wide = (_WIDE,) if "avx512f" in processor() else ()
    return Toolchain(
        target=target,
        compiler=compiler,
        version=_version(compiler),
        flags=(*_CPU_FLAGS, *flags, *wide),
        link_flags=("-shared",),
        sources=sources,
    )


def _cuda() -> Toolchain:
    folders = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    names = ["nvcc", *(f"{folder}/bin/nvcc" for folder in folders if folder)]
    compiler = _first(names)
    if compiler is None:
        raise KernelError("no CUDA compiler: nvcc not found; install it or set CUDA_HOME")
    listed = _answer(compiler, "--list-gpu-code").split()
    known = [sm for sm in ARCHITECTURES if f"sm_{sm}" in listed]
    if not known:
        raise KernelError(f"{compiler} compiles for none of sm_{', sm_'.join(ARCHITECTURES)}")
    codes = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in known]
    newest = known[-1]
    return Toolchain(
        target="cuda",
        compiler=compiler,
        version=_version(compiler),
        flags=(*_CUDA_FLAGS, *codes, f"-gencode=arch=compute_{newest},code=compute_{newest}"),
        link_flags=("-shared",),
        sources=tuple(sorted(file.name for file in SOURCES.glob("*.cu"))),
    )


def _first(names: Sequence[str]) -> str | None:
    return next((found for name in names if (found := shutil.which(name))), None)


def _version(compiler: str) -> str:
    return _answer(compiler, "--version")


@functools.cache
def _answer(compiler: str, question: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - the user's own compiler
            [compiler, question], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelError(f"the compiler {compiler} does not run: {error}") from error
    return answer.stdout.strip()


@functools.cache
def processor() -> str:
    """The processor's name and instruction sets, as reported by the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    wanted = ("model name", "flags", "features", "cpu part")
    # All processors are taken to be like the first one.
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in wanted:
            found.setdefault(name.strip().lower(), value.strip())
    return " ".join([platform.machine(), platform.processor(), *found.values()])
