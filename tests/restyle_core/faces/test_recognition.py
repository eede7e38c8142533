"""The recognition network against dlib's own, and the fixed chip against dlib's fitted one."""

from __future__ import annotations

import copy

import dlib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from skimage import data

from restyle.core.errors import CheckpointError
from restyle.core.faces.alignment import (
    FFHQ,
    Framing,
    align_faces,
    crop_quad,
    face_quad,
    model_files,
)
from restyle.core.faces.recognition import (
    WEIGHTS,
    chips_from_crops,
    load_face_embedder,
)


@pytest.fixture(scope="module")
def model():
    return load_face_embedder()


@pytest.fixture(scope="module")
def reference():
    return dlib.face_recognition_model_v1(
        str(model_files() / "dlib_face_recognition_resnet_model_v1.dat")
    )


@pytest.fixture(scope="module")
def face():
    return align_faces(Image.fromarray(data.astronaut()))[0]


def dlib_chip(landmarks):
    points = [dlib.point(int(x), int(y)) for x, y in landmarks]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 511, 511), points)
    return dlib.get_face_chip(data.astronaut(), shape, 150, 0.25)


def to_tensor(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_equals_dlib(model, reference, face):
    rng = np.random.default_rng(0)
    chips = [
        dlib_chip(face.landmarks),
        np.asarray(Image.fromarray(data.chelsea()).resize((150, 150))),
        np.ascontiguousarray(data.astronaut()[::2, ::2][:150, 50:200]),
        rng.integers(0, 256, (150, 150, 3), dtype=np.uint8),
        np.zeros((150, 150, 3), np.uint8),
        np.full((150, 150, 3), 255, np.uint8),
    ]
    expected = np.array([reference.compute_face_descriptor(chip) for chip in chips])
    ours = model(to_tensor(chips))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).mean() > 0.05  # the chips really differ


def test_features_are_the_levels_and_give_the_embedding(model):
    x = torch.rand(2, 3, 150, 150) * 2 - 1
    features = model.features(x)
    assert [tuple(f.shape[1:]) for f in features] == [
        (32, 35, 35),
        (64, 17, 17),
        (128, 8, 8),
        (256, 4, 4),
        (256, 2, 2),
    ]
    torch.testing.assert_close(model.embed(features), model(x))


def test_low_precision_keeps_the_direction(model, face):
    chips = chips_from_crops(to_tensor([np.asarray(face.image)]))
    exact = model(chips)
    converted = copy.deepcopy(model).to(torch.bfloat16).to(memory_format=torch.channels_last)
    assert torch.cosine_similarity(converted(chips), exact).min() > 0.999
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(chips)
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(rounded, exact).min() > 0.999


def test_gradient_reaches_the_crop_through_chip_and_network(model, face):
    target = model(chips_from_crops(to_tensor([np.asarray(face.image)])))
    crop = to_tensor([np.asarray(face.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))])
    crop.requires_grad_()

    def similarity(x):
        return torch.cosine_similarity(model(chips_from_crops(x)), target).sum()

    before = similarity(crop)
    (gradient,) = torch.autograd.grad(before, crop)
    assert gradient.isfinite().all()
    assert similarity(crop + 0.05 * gradient / gradient.norm(dim=(2, 3)).max()) > before


@pytest.mark.parametrize("framing", [FFHQ, Framing(0.7, 0.02)], ids=["ffhq", "tight"])
@pytest.mark.parametrize("size", [64, 256, 512])
def test_fixed_chip_is_close_to_dlibs_fitted_one(model, face, framing, size):
    """Same face, other framing: inside dlib's 0.6 for one identity."""
    expected = model(to_tensor([dlib_chip(face.landmarks)]))
    quad = face_quad(face.landmarks, framing)
    crop = crop_quad(Image.fromarray(data.astronaut()), quad, size)
    chips = chips_from_crops(to_tensor([np.asarray(crop)]), framing)
    assert chips.shape == (1, 3, 150, 150)
    assert chips.abs().max() <= 1 + 1e-6
    assert (model(chips) - expected).norm() < 0.4


def test_chip_resampling_keeps_a_ramp_where_the_crop_reaches():
    """On a linear ramp the chip's pixel centres are known in closed form."""
    size = 200
    centres = (torch.arange(size) + 0.5) / size
    ramp = torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)])
    crop = torch.cat([ramp, ramp[:1]])[None]
    chip = chips_from_crops(crop, FFHQ)[0]
    inside = (torch.arange(150) + 0.5) / 150
    torch.testing.assert_close(chip[0, 70], 0.15 + 0.7 * inside, atol=1e-5, rtol=0)
    torch.testing.assert_close(chip[1, :, 70], 0.257 + 0.7 * inside, atol=1e-5, rtol=0)


def test_weights_can_be_loaded_and_used_across_inference_mode():
    with torch.inference_mode():
        chips_from_crops(torch.zeros(1, 3, 77, 77))
    crop = torch.zeros(1, 3, 77, 77, requires_grad=True)
    chips_from_crops(crop).sum().backward()
    assert crop.grad is not None


def test_damaged_files_are_refused(tmp_path):
    whole = WEIGHTS.read_bytes()
    tensors = load_file(WEIGHTS)
    damaged = {
        "short": whole[: len(whole) // 2],
        "junk": b"x" * 5000,
        "other": (WEIGHTS.parent / "lpips_alex.safetensors").read_bytes(),
        "fewer": save({name: tensors[name] for name in list(tensors)[1:]}),
        "reshaped": save(tensors | {"head.weight": tensors["head.weight"].T.contiguous()}),
    }
    for name, content in damaged.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=name) as caught:
            load_face_embedder(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"missing\.safetensors"):
        load_face_embedder(tmp_path / "missing.safetensors")
