"""The second age network's file is read as its manifest says, and padded as it was trained."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.faces64.directions.second_age import SecondAges

BLOCKS = {
    "entry_flow/reduction_block_0": (4, 6),
    "entry_flow/reduction_block_1": (6, 8),
    "exit_flow/reduction_block": (8, 10),
}


def arrays() -> dict[str, np.ndarray]:
    """Random weights of a narrow network of the same layout, filters [h, w, in, out]."""
    source = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (source.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    def separable(name: str, narrow: int, wide: int) -> dict[str, np.ndarray]:
        return {
            f"{name}/depthwise_filter": draw(3, 3, narrow, 1),
            f"{name}/pointwise_filter": draw(1, 1, narrow, wide),
            f"{name}/bias": draw(wide),
        }

    made = {"entry_flow/conv_in/filters": draw(3, 3, 3, 4), "entry_flow/conv_in/bias": draw(4)}
    for name, (narrow, wide) in BLOCKS.items():
        made |= separable(f"{name}/separable_conv0", narrow, wide)
        made |= separable(f"{name}/separable_conv1", wide, wide)
        made |= {f"{name}/expansion_conv/filters": draw(1, 1, narrow, wide)}
        made |= {f"{name}/expansion_conv/bias": draw(wide)}
    for block in range(2):
        for layer in range(3):
            made |= separable(f"middle_flow/main_block_{block}/separable_conv{layer}", 8, 8)
    made |= separable("exit_flow/separable_conv", 10, 12)
    return made | {"fc/age/weights": 100 * draw(12, 1), "fc/age/bias": draw(1)}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Every second array quantised to bytes."""
    weights, data = [], b""
    for index, (name, values) in enumerate(arrays().items()):
        entry: dict[str, object] = {"name": name, "shape": values.shape, "dtype": "float32"}
        if index % 2:
            low, scale = float(values.min()), float(np.ptp(values) or 1) / 255
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": low}
            data += np.round((values - low) / scale).astype(np.uint8).tobytes()
        else:
            data += values.tobytes()
        weights.append(entry)
    files = {
        "age_gender_model-weights_manifest.json": json.dumps(
            [{"weights": weights, "paths": ["age_gender_model.bin"]}]
        ).encode(),
        "age_gender_model.bin": data,
    }
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/model/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_arrays_come_back_within_a_quantum(package: Path) -> None:
    network = SecondAges(package)
    for index, (name, values) in enumerate(arrays().items()):
        quantum = np.ptp(values) / 255 if index % 2 else 0
        assert np.abs(network._arrays[name].numpy() - values).max() <= 0.51 * quantum + 1e-7


def test_eight_looks_are_averaged_and_mirror_images_count_alike(package: Path) -> None:
    network = SecondAges(package)
    torch.manual_seed(0)
    crops = torch.rand(3, 3, 64, 64) * 2 - 1
    years = network.of_crops(crops)
    assert years.shape == (3,)
    torch.testing.assert_close(network.of_crops(crops.flip(3)), years, rtol=0.05, atol=1)
    torch.testing.assert_close(network.of_crops(crops[1:2]), years[1:2], rtol=1e-4, atol=1e-3)
    single = network(crops)
    assert (single - years).abs().max() > 1e-3
