"""Directions from other tools' files, made here as those tools make them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restyle.core.editing.imported import import_directions
from restyle.core.errors import CheckpointError

VECTOR = torch.linspace(-1, 1, 16)


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def claims_cuda(path: Path, content: Any) -> Path:
    """As torch writes a file whose tensors are on a GPU, without one."""
    torch.save(content, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert b"X\x03\x00\x00\x00cpu" in data
    path.write_bytes(data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    return path


@pytest.mark.parametrize("shape", [(16,), (1, 16), (1, 1, 16)])
def test_one_vector(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for path in (
        saved(tmp_path / "age.pt", 3 * VECTOR.reshape(shape)),
        claims_cuda(tmp_path / "age.pth", 3 * VECTOR.reshape(shape)),
    ):
        (direction,) = import_directions(path)
        assert direction.name == "age"
        assert direction.about.unit == "file"
        np.testing.assert_allclose(
            direction.vector * direction.about.scale, 3 * VECTOR.numpy(), rtol=1e-5
        )
        assert np.linalg.norm(direction.vector) == pytest.approx(1)


def test_a_vector_for_each_style(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(1, 18, 16))
    np.save(tmp_path / "pose.npy", rows.astype(np.float16))
    (direction,) = import_directions(tmp_path / "pose.npy")
    np.testing.assert_allclose(direction.vector * direction.about.scale, rows[0], atol=2e-3)


def test_ganspace_components_keep_their_spread(tmp_path: Path) -> None:
    content = {
        "comp": torch.eye(16)[:5, None],
        "mean": torch.zeros(1, 16),
        "std": torch.arange(1.0, 6),
    }
    found = import_directions(saved(tmp_path / "pca.pt", content))
    assert [direction.name for direction in found] == [f"pca-{index}" for index in range(5)]
    assert [direction.about.scale for direction in found] == [1, 2, 3, 4, 5]
    assert {direction.about.kind for direction in found} == {"ganspace"}
    np.testing.assert_array_equal(np.stack([each.vector for each in found]), np.eye(16)[:5])


def test_a_dictionary_of_names(tmp_path: Path) -> None:
    path = saved(tmp_path / "edits.pt", {"smile": VECTOR, "../x y": torch.nn.Parameter(VECTOR)})
    assert [each.name for each in import_directions(path)] == ["edits-smile", "edits-..-x-y"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/restyle-was-here"),)


def hostile(folder: Path) -> list[Path]:
    code = folder / "code.pt"
    code.write_bytes(pickle.dumps(Evil()))
    np.save(folder / "objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    huge = folder / "huge.npy"
    huge.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    (folder / "empty.npy").touch()
    (folder / "empty.pt").touch()
    np.save(folder / "words.npy", np.array(["a"]))
    np.save(folder / "cube.npy", np.ones((2, 3, 4)))
    np.save(folder / "zero.npy", np.zeros(4))
    (folder / "text.csv").write_text("1,2")
    return [
        code,
        huge,
        *(folder / f"{name}.npy" for name in ("objects", "empty", "words", "cube", "zero", "none")),
        folder / "text.csv",
        folder / "empty.pt",
        folder / "none.pt",
        saved(folder / "wide.pt", torch.zeros(1).expand(1 << 40)),
        saved(folder / "sparse.pt", torch.eye(4).to_sparse()),
        saved(folder / "nan.pt", VECTOR * torch.nan),
        saved(folder / "list.pt", [1, 2]),
        saved(folder / "nothing.pt", {}),
        saved(folder / "half.pt", {"comp": torch.ones(2, 1, 4)}),
        saved(folder / "flat.pt", {"comp": torch.ones(2, 1, 4), "std": torch.zeros(2)}),
        saved(folder / "short.pt", {"comp": torch.ones(2, 1, 4), "std": torch.ones(3)}),
    ]


def test_anything_else_is_refused_in_one_line(tmp_path: Path) -> None:
    for path in hostile(tmp_path):
        with pytest.raises(CheckpointError, match=path.name) as caught:
            import_directions(path)
        assert "\n" not in str(caught.value), path
    assert not Path("/tmp/restyle-was-here").exists()
