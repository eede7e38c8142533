"""Metrics against scikit-image, torchmetrics and closed forms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from restyle.core.errors import SpecError
from restyle.core.faces.alignment import FFHQ, Framing, align_faces
from restyle.core.faces.recognition import chips_from_crops, load_face_embedder
from restyle.core.metrics.lpips import load_lpips
from restyle.core.metrics.measures import METRICS, MetricSet
from restyle.core.metrics.ms_ssim import ms_ssim, scale_weights


def pair(height, width, count=2, noise=0.1):
    """Crops of a photograph and a noisy, slightly moved version; [-1, 1]."""
    photo = data.astronaut().astype(np.float32) / 127.5 - 1
    target = np.stack(
        [photo[60 * i : 60 * i + height, 80 * i : 80 * i + width] for i in range(count)]
    )
    rng = np.random.default_rng(0)
    moved = np.roll(target, 1, axis=2) + rng.normal(0, noise, target.shape)
    return [
        torch.from_numpy(np.clip(x, -1, 1).astype(np.float32)).permute(0, 3, 1, 2)
        for x in (moved, target)
    ]


def measure(names, reconstruction, target, **options):
    return MetricSet(names, framing=options.pop("framing", None), **options)(reconstruction, target)


def test_l2_and_psnr_equal_scikit_image():
    reconstruction, target = pair(64, 80)
    result = measure(["l2", "psnr"], reconstruction, target)
    for i in range(2):
        a, b = target[i].numpy().astype(np.float64), reconstruction[i].numpy().astype(np.float64)
        assert result["l2"][i].item() == pytest.approx(((a - b) ** 2).mean(), rel=1e-5)
        expected = peak_signal_noise_ratio(a, b, data_range=2)
        assert result["psnr"][i].item() == pytest.approx(expected, rel=1e-5)


def test_closed_forms():
    target = torch.zeros(2, 3, 64, 64)
    result = measure(["l2", "psnr", "ms_ssim"], target + 0.2, target)
    assert result["l2"].tolist() == pytest.approx([0.04] * 2)
    assert result["psnr"].tolist() == pytest.approx([20.0] * 2)
    # Constant images 0.6 and 0.5: contrast terms are 1, luminance at the last scale remains.
    luminance = (2 * 0.6 * 0.5 + 1e-4) / (0.6**2 + 0.5**2 + 1e-4)
    expected = luminance ** scale_weights(64, 64)[-1]
    assert result["ms_ssim"].tolist() == pytest.approx([expected] * 2, rel=1e-4)
    same = measure(["l2", "psnr", "ms_ssim", "lpips"], target, target)
    assert [same[name][0].item() for name in ("l2", "psnr", "ms_ssim", "lpips")] == [
        0.0,
        float("inf"),
        pytest.approx(1.0),
        0.0,
    ]


def ms_ssim_by_torchmetrics(a, b, betas):
    """Wang's definition from torchmetrics' maps, over the windows inside the image.

    Its own multi-scale function does not serve: at the last scale alone it also averages the
    windows that reach into reflected padding, and it refuses some sizes that hold the scales.
    """
    result = torch.ones(len(a))
    for scale, beta in enumerate(betas):
        if scale:
            a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
        options = {"data_range": 1.0, "reduction": "none"}
        _, full = structural_similarity_index_measure(a, b, return_full_image=True, **options)
        _, contrast = structural_similarity_index_measure(
            a, b, return_contrast_sensitivity=True, **options
        )
        similarity = full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
        result *= (similarity if scale == len(betas) - 1 else contrast).clamp(min=0) ** beta
    return result


@pytest.mark.parametrize("size", [(256, 256), (192, 256), (64, 64), (90, 120), (33, 200)])
def test_ms_ssim_equals_torchmetrics(size):
    a, b = ((x + 1) / 2 for x in pair(*size))
    expected = ms_ssim_by_torchmetrics(a, b, scale_weights(*size))
    torch.testing.assert_close(ms_ssim(a, b), expected, atol=1e-5, rtol=0)
    assert 0.1 < expected.min() < 0.99


def test_whole_ms_ssim_of_torchmetrics_differs_only_by_its_border():
    a, b = ((x + 1) / 2 for x in pair(256, 256))
    expected = multiscale_structural_similarity_index_measure(
        a, b, data_range=1.0, reduction="none"
    )
    torch.testing.assert_close(ms_ssim(a, b), expected, atol=2e-3, rtol=0)


def test_one_scale_of_ms_ssim_equals_scikit_image():
    """16 pixels hold one scale, where MS-SSIM is the plain SSIM over the inner windows."""
    a, b = ((x + 1) / 2 for x in pair(16, 20, count=1))
    assert scale_weights(16, 20) == (1.0,)
    _, full = structural_similarity(
        a[0].numpy().astype(np.float64),
        b[0].numpy().astype(np.float64),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    expected = full[:, 5:-5, 5:-5].mean()
    assert ms_ssim(a, b).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("side", "count"), [(11, 1), (21, 1), (22, 2), (44, 3), (64, 3), (88, 4), (175, 4), (176, 5)]
)
def test_scales_that_fit(side, count):
    weights = scale_weights(side, 1000)
    assert len(weights) == count
    assert sum(weights) == pytest.approx(1.0, abs=2e-4)
    assert scale_weights(1000, side) == weights
    x = torch.rand(1, 3, side, side)
    assert ms_ssim(x, x).item() == pytest.approx(1.0, abs=1e-5)


def test_lpips_is_the_metric_of_lpips():
    reconstruction, target = pair(64, 64)
    expected = load_lpips()(reconstruction, target)
    torch.testing.assert_close(measure(["lpips"], reconstruction, target)["lpips"], expected)


def test_id_similarity_is_the_cosine_of_embeddings():
    face = align_faces(Image.fromarray(data.astronaut()))[0].image
    target = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None].float() / 127.5 - 1
    other = target.flip(3) * 0.7
    embed = load_face_embedder()
    a, b = (embed(chips_from_crops(x, FFHQ))[0].double().numpy() for x in (other, target))
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    result = measure(["id_similarity"], other, target, framing=FFHQ)["id_similarity"]
    assert result.item() == pytest.approx(expected, abs=1e-5)
    assert (
        measure(["id_similarity"], target, target, framing=FFHQ)["id_similarity"].item() > 0.99999
    )
    # A stranger (a cat) is less similar than the mirrored, darker self.
    cat = torch.from_numpy(data.chelsea()[:256, 100:356].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    assert measure(["id_similarity"], cat, target, framing=FFHQ)["id_similarity"].item() < expected


def test_id_similarity_is_nan_without_faces():
    reconstruction, target = pair(64, 64)
    assert measure(["id_similarity"], reconstruction, target)["id_similarity"].isnan().all()


def test_every_metric_is_per_image_and_independent_of_its_batch():
    reconstruction, target = pair(64, 64, count=3)
    metrics = MetricSet(METRICS, framing=Framing(0.7, 0.02))
    together = metrics(reconstruction, target)
    assert tuple(together) == tuple(METRICS)
    for name, values in together.items():
        assert values.shape == (3,)
        assert values.dtype == torch.float32
        alone = torch.cat(
            [metrics(r[None], t[None])[name] for r, t in zip(reconstruction, target, strict=True)]
        )
        torch.testing.assert_close(values, alone, atol=1e-5, rtol=1e-5)


def test_prepared_target_serves_several_steps():
    reconstruction, target = pair(64, 64)
    metrics = MetricSet(METRICS, framing=FFHQ)
    with torch.inference_mode():
        against = metrics.against(target)
        for step in (reconstruction, target, reconstruction * 0.5):
            expected = metrics(step, target)
            for name, values in against(step).items():
                torch.testing.assert_close(values, expected[name], msg=name)


def test_all_metrics_prefer_the_better_reconstruction():
    better, target = pair(64, 64, noise=0.02)
    worse, _ = pair(64, 64, noise=0.6)
    metrics = MetricSet(METRICS, framing=FFHQ)
    good, bad = metrics(better, target), metrics(worse, target)
    for name in METRICS:
        assert ((good[name] < bad[name]) == (METRICS[name].better == "lower")).all(), name


def test_values_out_of_range_count_as_they_are_saved():
    target = torch.ones(1, 3, 64, 64)
    assert measure(["l2"], target + 3, target)["l2"].item() == 0


def test_low_precision_networks_stay_close():
    reconstruction, target = pair(64, 64)
    exact = measure(METRICS, reconstruction, target, framing=FFHQ)
    rounded = measure(METRICS, reconstruction, target, framing=FFHQ, dtype=torch.bfloat16)
    for name in METRICS:
        torch.testing.assert_close(rounded[name], exact[name], rtol=0.02, atol=0.005, msg=name)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(SpecError, match=r"'ssim'.*l2, psnr, ms_ssim, lpips, id_similarity"):
        MetricSet(["l2", "ssim"], framing=None)
    assert MetricSet(["psnr", "l2", "psnr"], framing=None).names == ("l2", "psnr")
    assert all(METRICS[name].definition for name in METRICS)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        measure(["l2"], torch.zeros(1, 3, 64, 64), torch.zeros(2, 3, 64, 64))


def test_names_need_no_torch():
    code = (
        "import sys; from restyle.core.metrics.registry import METRICS\n"
        "assert len(METRICS.values()) >= 5 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
