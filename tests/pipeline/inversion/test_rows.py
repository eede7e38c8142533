"""The rows of a unit against ``invert`` run directly, read back by plain pyarrow and pandas."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from restyle.core.errors import RejectReason
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.core.metrics.registry import METRICS
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.inversion.inverter import Inverter
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.datasets import (
    LATENTS,
    RECONSTRUCTIONS,
    REJECTS,
    STEPS,
    latent_shape,
    schema,
)
from restyle.pipeline.ledger.rejects import Reject
from restyle.pipeline.ledger.settings import ResolvedSettings
from tests.pipeline.ledger.test_settings import resolved

QUAD = np.array([(0.0, 1.0), (2.0, 3.0), (4.0, 5.0), (6.0, 7.5)])


def settings(**options: object) -> ResolvedSettings:
    return resolved(steps=3, metrics=("l2", "lpips"), **options)


def unit(count: int) -> AlignedUnit:
    rng = np.random.default_rng(1)
    crops = [
        Crop(f"{i // 2:032x}", i % 2, f"/p/{i // 2}.jpg", noise, QUAD + i, 1 + i // 2)
        for i, noise in enumerate(rng.integers(0, 256, (count, 256, 256, 3), dtype=np.uint8))
    ]
    rejects = [Reject("f" * 32, "/p/x.txt", "align", RejectReason.NOT_AN_IMAGE, "no image", 7)]
    return AlignedUnit("u", len({crop.image_id for crop in crops}) + 1, crops, rejects, 0.5)


def tables(inverted: EncodedUnit) -> dict:
    return {name: pq.read_table(io.BytesIO(data)) for name, (data, _) in inverted.files.items()}


def test_rows_are_what_invert_gives(tiny_model: Path) -> None:
    run = settings(save_steps="latents", reconstructions="all")
    aligned = unit(5)
    # Batches of two, so that the last one is not full.
    inverted = Inverter(str(tiny_model), run, device="cpu", batch_size=2, threads=1)(aligned)
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    pixels = np.stack([crop.pixels for crop in aligned.crops])
    direct = invert(model, pixels, 3, reconstructions="all", metrics=("l2", "lpips"), deltas=True)
    read = tables(inverted)

    latents = read[LATENTS].column("latent").combine_chunks().flatten().to_numpy()
    shape = (model.n_styles, model.style_dim)
    assert latent_shape(read[LATENTS].schema) == shape
    np.testing.assert_allclose(
        latents.reshape(5, *shape), direct.latents[:, -1].numpy(), rtol=1e-4, atol=1e-5
    )
    steps = read[STEPS].column("latent").combine_chunks().flatten().to_numpy()
    np.testing.assert_allclose(
        steps.reshape(5, 3, *shape), direct.latents.numpy(), rtol=1e-4, atol=1e-5
    )
    frame = read[STEPS].to_pandas()
    assert frame.step.tolist() == [1, 2, 3] * 5
    for name in ("l2", "lpips"):
        expected = direct.metrics[name].numpy()
        np.testing.assert_allclose(frame[name].to_numpy().reshape(5, 3), expected, rtol=1e-3)
        np.testing.assert_allclose(
            read[LATENTS].column(name).to_numpy(), expected[:, -1], rtol=1e-3
        )
        assert inverted.metrics[name].total == pytest.approx(expected.sum(axis=0), rel=1e-3)
        assert inverted.metrics[name].count == (5, 5, 5)
    assert direct.deltas is not None
    np.testing.assert_allclose(
        frame.delta.to_numpy().reshape(5, 3), direct.deltas.numpy(), rtol=1e-3
    )

    images = read[RECONSTRUCTIONS].to_pandas()
    assert images.step.tolist() == [0, 1, 2, 3] * 5
    assert set(images.format) == {"png"}
    for index, row in images.iterrows():
        face, step = divmod(int(str(index)), 4)
        pixels_of = np.asarray(Image.open(io.BytesIO(row.image)))
        if step == 0:
            photo = Image.fromarray(aligned.crops[face].pixels)
            assert np.array_equal(pixels_of, photo.resize((64, 64), Image.Resampling.BILINEAR))
        else:
            assert direct.reconstructions is not None
            ours = direct.reconstructions[face, step - 1].permute(1, 2, 0).numpy()
            expected = np.clip((ours + 1) * 127.5, 0, 255)
            assert np.abs(pixels_of - expected).max() <= 0.51


def test_a_face_that_stops_early_has_rows_for_the_steps_it_took(tiny_model: Path) -> None:
    aligned = unit(5)
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    pixels = np.stack([crop.pixels for crop in aligned.crops])
    deltas = invert(model, pixels, 3, deltas=True).deltas
    assert deltas is not None
    tolerance = float(deltas[:, :2].amin(dim=1).median()) * 1.001
    taken = [
        int((row < tolerance).nonzero()[0, 0]) + 1 if (row < tolerance).any() else 3
        for row in deltas
    ]
    assert len(set(taken)) > 1

    run = settings(save_steps="latents", reconstructions="all", tolerance=tolerance)
    inverted = Inverter(str(tiny_model), run, device="cpu", threads=1)(aligned)
    read = tables(inverted)
    assert read[LATENTS].column("steps").to_pylist() == taken
    frame = read[STEPS].to_pandas()
    assert frame.step.tolist() == [step for last in taken for step in range(1, last + 1)]
    assert (frame.delta[frame.step < 3] >= 0).all()
    faces = frame.groupby(["image_id", "face"], sort=False)
    ends = faces.last().reset_index()
    assert ends.l2.tolist() == pytest.approx(read[LATENTS].column("l2").to_pylist())
    ours = np.stack(ends["latent"])
    assert np.array_equal(ours, np.stack(read[LATENTS].to_pandas()["latent"]))
    images = read[RECONSTRUCTIONS].to_pandas()
    assert images.step.tolist() == [step for last in taken for step in range(last + 1)]
    # Means over all faces at each step: what a face came to counts in later steps too.
    assert inverted.metrics["l2"].count == (5, 5, 5)

    last = settings(reconstructions="last", tolerance=tolerance)
    images = tables(Inverter(str(tiny_model), last, device="cpu", threads=1)(aligned))
    assert images[RECONSTRUCTIONS].column("step").to_pylist() == [
        step for end in taken for step in (0, end)
    ]


def test_identity_quads_and_rejects(tiny_model: Path) -> None:
    run = settings(save_steps="none", reconstructions="none")
    aligned = unit(5)
    inverted = Inverter(str(tiny_model), run, device="cpu", threads=1)(aligned)
    assert (inverted.images, inverted.faces) == (4, 5)
    assert inverted.rejects == {"not_an_image": 1}
    read = tables(inverted)
    assert set(read) == {LATENTS, REJECTS}
    frame = read[LATENTS].to_pandas()
    assert frame.image_id.tolist() == [f"{i // 2:032x}" for i in range(5)]
    assert frame.revision.tolist() == [1, 1, 2, 2, 3]
    assert frame.face.tolist() == [0, 1, 0, 1, 0]
    assert frame.source.tolist() == [f"/p/{i // 2}.jpg" for i in range(5)]
    assert frame.steps.tolist() == [3] * 5
    assert np.array_equal(frame.quad[3].reshape(4, 2), QUAD + 3)
    assert frame.psnr.isna().all()
    assert frame.id_similarity.isna().all()
    assert frame.model[0] == "faces64:restyle-psp@" + "a" * 12
    assert read[REJECTS].to_pylist() == [
        {
            "image_id": "f" * 32,
            "revision": 7,
            "source": "/p/x.txt",
            "stage": "align",
            "reason": "not_an_image",
            "message": "no image",
        }
    ]


def test_only_the_last_reconstruction(tiny_model: Path) -> None:
    run = settings(reconstructions="last")
    inverted = Inverter(str(tiny_model), run, device="cpu", threads=1)(unit(2))
    assert tables(inverted)[RECONSTRUCTIONS].column("step").to_pylist() == [0, 3, 0, 3]
    assert "latent" not in tables(inverted)[STEPS].column_names


def test_a_unit_of_rejects_alone(tiny_model: Path) -> None:
    aligned = unit(1)
    only = AlignedUnit("u", 1, [], aligned.rejects, 0.0)
    inverted = Inverter(str(tiny_model), settings(), device="cpu", threads=1)(only)
    assert set(inverted.files) == {REJECTS}
    assert inverted.metrics == {}


def test_an_input_that_is_lost_is_noticed() -> None:
    with pytest.raises(ValueError, match="3 of 4 inputs"):
        AlignedUnit("u", 4, unit(4).crops, unit(1).rejects, 0.0)


def test_schemas_say_version_shape_and_definitions() -> None:
    run = settings()
    made = schema(LATENTS, run, (18, 512))
    assert made.metadata[b"restyle.version"] == b"2"
    assert made.metadata[b"restyle.fingerprint"].decode() == run.fingerprint
    latent = made.field("latent")
    assert json.loads(latent.metadata[b"shape"]) == [18, 512]
    assert (latent.type.list_size, latent.nullable) == (9216, False)
    assert not latent.type.value_field.nullable
    for name, metric in METRICS.items():
        assert made.field(name).metadata[b"definition"].decode() == metric.definition


def test_pandas_reads_a_dataset_folder(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    inverted = Inverter(str(tiny_model), settings(), device="cpu", threads=1)(unit(3))
    (tmp_path / "latents").mkdir()
    for part in ("a", "b"):
        (tmp_path / "latents" / f"part-{part}.parquet").write_bytes(inverted.files[LATENTS][0])
    frame = pd.read_parquet(tmp_path / "latents")
    assert len(frame) == 6
    assert np.stack(frame.latent.to_list()).shape == (6, 10 * 32)
    assert np.stack(frame.latent.to_list()).dtype == np.float32
