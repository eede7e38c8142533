"""``restyle kernels``: building ahead of time, and saying what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import restyle


def test_build_and_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    before = restyle("kernels", "status")
    assert "cpu: built on first use: " in before.stdout
    built = restyle("kernels", "build")
    assert built.returncode == 0, built.stderr
    library = Path(built.stdout.strip())
    assert library.is_file()
    assert tmp_path in library.parents
    assert f"cpu: built: {library}\n" in restyle("kernels", "status").stdout


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    failed = restyle("kernels", "build")
    assert failed.returncode == 2
    assert failed.stderr == (
        "error: no C++ compiler: no-such-compiler not found; install g++ or set CXX\n"
    )
    status = restyle("kernels", "status")
    assert status.returncode == 0
    assert "cpu: the plain operators are used: no C++ compiler" in status.stdout
