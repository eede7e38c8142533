"""Files of numpy that were made to harm: one line, no memory, no code, no wait."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restyle.core.checkpoints import numpy_files
from restyle.core.checkpoints.numpy_files import ArrayFileError, map_array, read_arrays
from restyle.core.editing.imported import import_directions
from restyle.core.errors import CheckpointError, SpecError
from restyle.core.training.crops import CropSet


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin1")
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def described(shape: str, kind: str = "<f4") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"


HEADERS: dict[str, bytes] = {
    "deep": npy("(" * 9000),
    "deep-lists": npy("[" * 4000 + "]" * 4000),
    "long": npy(" " * 60_000 + described("(1,)")),
    "very-long": npy("1" * 200_000, version=2),
    "huge": npy(described("(1000000, 1000000)")),
    "overflowing": npy(described(f"({10**30},)")),
    "negative": npy(described("(-1,)"), b"1234"),
    "words": npy("words"),
    "python2": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1L, '''"),
    "no-type": npy(described("(1,)", "<q9"), b"1234"),
    "objects": npy(described("(1,)", "|O"), b"\x80\x04N."),
    "version": npy(described("(1,)"), b"1234", version=9),
    "empty": b"",
    "cut": npy(described("(9,)"), b"1234"),
    "zip": b"PK\x03\x04",
}


@pytest.mark.parametrize("name", HEADERS)
def test_npy_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(HEADERS[name])
    with pytest.raises(ArrayFileError) as caught:
        map_array(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"a\.npy is no \.npy of plain numbers") as refused:
        import_directions(path)
    assert "\n" not in str(refused.value)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def patched(data: bytes, local: tuple[int, bytes], central: tuple[int, bytes]) -> bytes:
    """Both headers of the only member of a zip, changed at an offset."""
    changed = bytearray(data)
    for start, (offset, value) in ((0, local), (data.rindex(b"PK\x01\x02"), central)):
        changed[start + offset : start + offset + len(value)] = value
    return bytes(changed)


IMAGES = npy(described("(1, 2, 2, 3)", "|u1"), bytes(12))
PLAIN = zipped({"images.npy": IMAGES})


def array(**arrays: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


OK = np.zeros((2, 4, 4, 3), np.uint8)

ARCHIVES: dict[str, Callable[[], bytes]] = {
    "encrypted": lambda: patched(PLAIN, (6, b"\x01\x00"), (8, b"\x01\x00")),
    "method": lambda: patched(PLAIN, (8, b"\x63\x00"), (10, b"\x63\x00")),
    "damaged": lambda: PLAIN[:50] + b"\xff" * 10 + PLAIN[60:],
    "cut": lambda: PLAIN[:-30],
    "no-zip": lambda: b"PK\x03\x04 and nothing",
    "deep": lambda: zipped({"images.npy": HEADERS["deep"]}),
    "huge": lambda: zipped({"images.npy": npy(described("(9000000, 1000, 1000, 3)", "|u1"))}),
    "words": lambda: zipped({"images.npy": b"words"}),
    "one-array": lambda: IMAGES,
    "nothing": lambda: zipped({}),
    "axes": lambda: array(images=np.zeros((3, 4), np.uint8)),
    "scalar": lambda: array(images=np.uint8(3)),
    "floats": lambda: array(images=OK.astype(np.float32)),
    "strings": lambda: array(images=np.full((1, 2, 2, 3), "x")),
    "grey": lambda: array(images=OK[..., :1]),
    "fewer-z": lambda: array(images=OK, z=np.zeros((1, 8), np.float32)),
    "other-order": lambda: array(images=OK, z=np.zeros((2, 8), ">f4")),
    "complex": lambda: array(images=OK, z=np.zeros((2, 8), np.complex64)),
    "flat-latents": lambda: array(images=OK, latents=np.zeros((2, 8), np.float16)),
    "smaller-targets": lambda: array(images=OK, targets=OK[:, :2, :2]),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_npz_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(ARCHIVES[name]())
    with pytest.raises(SpecError, match=r"a\.npz is no file of training crops: \S") as caught:
        CropSet.load([path])
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_files, "_HARMLESS_BYTES", 1 << 20)
    path = tmp_path / "a.npz"
    count = 2**24
    head = npy(described(f"({count}, 2, 2, 3)", "|u1"))
    path.write_bytes(zipped({"images.npy": head + bytes(12 * count)}))
    assert path.stat().st_size < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SpecError, match=r"images unpacks to [\d,]+ bytes, 100 times and more"):
        CropSet.load([path])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    for read in (map_array, lambda path: read_arrays(path, ["images"])):
        with pytest.raises(ArrayFileError, match="No such file"):
            read(path)
        with pytest.raises(ArrayFileError, match="No such file"):
            read(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 200), st.binary(max_size=20), st.booleans())
def test_no_bytes_are_a_traceback(tmp_path: Path, at: int, data: bytes, is_zip: bool) -> None:
    whole = PLAIN if is_zip else npy(described("(2, 2)"), bytes(16))
    at = min(at, len(whole))
    path = tmp_path / "a"
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    for read in (map_array, lambda path: read_arrays(path, ["images"])):
        with contextlib.suppress(ArrayFileError):
            read(path)


def test_good_files_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    assert np.array_equal(map_array(tmp_path / "a.npy"), np.eye(3))
    (tmp_path / "a.npz").write_bytes(array(images=OK + 1, other=OK))
    found = read_arrays(tmp_path / "a.npz", ["images", "z"])
    assert list(found) == ["images"]
    assert np.array_equal(found["images"], OK + 1)
