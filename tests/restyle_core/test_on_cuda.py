"""What a GPU would be asked to do, without one: every operator of a step, where and in what order.

Nothing is computed here and nothing is timed; what is shown is that a step of refinement reaches
no operator that GPUs lack, mixes no devices, and never waits for a result.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from restyle.core.faces import recognition
from restyle.core.faces.alignment import FFHQ
from restyle.core.faces.recognition import FaceEmbedder
from restyle.core.inference import model, optimization, synthesis
from restyle.core.inference.batch_size import gradient_footprint
from restyle.core.inference.model import Model
from restyle.core.metrics import lpips
from restyle.core.metrics.lpips import LPIPS
from restyle.core.metrics.measures import METRICS, MetricSet
from restyle.core.networks.config import EncoderKind
from restyle.kernels import native
from tests.restyle_core.fake_cuda import DEVICE, Watch, fake_model, moved, stand_in


@pytest.fixture(scope="module", autouse=True)
def _guarded(tmp_path_factory: pytest.TempPathFactory) -> None:
    stand_in(tmp_path_factory.mktemp("guard"))


@pytest.fixture
def _fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Its values decide, and fake tensors have none.
    monkeypatch.setattr(synthesis, "_separated", lambda _: (torch.zeros(4), torch.zeros(4)))
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    monkeypatch.setattr(model, "free_memory", lambda _: 64 << 30)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the operators were built for GPUs."""
    monkeypatch.setattr(native, "library", lambda *_: object())
    monkeypatch.setattr(native, "describe", lambda *_: "native: for a test")


def stepped(model: Model, batch: int) -> Watch:
    side = model.config.image_size[0]
    x = torch.empty(batch, 3, side, side, device=DEVICE)
    w = torch.empty(batch, model.n_styles, model.style_dim, device=DEVICE)
    with torch.inference_mode(), Watch() as watch:
        latents, image, pooled = model.step(x, x, w)
    assert latents.shape == w.shape
    assert image.shape == (batch, 3, model.generator.config.size, model.generator.config.size)
    assert pooled.shape == x.shape
    assert {each.dtype for each in (latents, image, pooled)} == {torch.float32}
    return watch


@pytest.mark.parametrize(
    ("kind", "size", "side", "dtype"),
    [
        (EncoderKind.BACKBONE, 1024, 256, torch.bfloat16),
        (EncoderKind.PROGRESSIVE_BACKBONE, 256, 256, torch.float32),
        (EncoderKind.RESNET_BACKBONE, 256, 256, torch.bfloat16),
        (EncoderKind.GRADUAL_STYLE, 512, 256, torch.bfloat16),
        (EncoderKind.SMALL_BACKBONE, 64, 64, torch.bfloat16),
    ],
    ids=str,
)
@pytest.mark.usefixtures("_fake", "compiled")
def test_a_step_never_leaves_the_gpu(
    kind: EncoderKind, size: int, side: int, dtype: torch.dtype
) -> None:
    faked = fake_model(kind, size, side, dtype)
    watch = stepped(faked, 3)
    assert watch.strange == []
    # What a batch is sized by is more than what was alive at once, and not much more.
    assert watch.peak / 3 < faked.footprint.bytes < 2 * watch.peak / 3
    assert {"restyle.blur_layer.default", "restyle.to_rgb_layer.default"} <= watch.called
    published = {"restyle.activate_.default", "restyle.add_shortcut_.default"}
    assert kind == EncoderKind.SMALL_BACKBONE or published <= watch.called


@pytest.mark.usefixtures("_fake")
def test_nor_does_one_without_compiled_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda *_: None)
    monkeypatch.setattr(native, "library_for", lambda *_: None)
    monkeypatch.setattr(native, "describe", lambda *_: "reference: for a test")
    faked = fake_model(EncoderKind.BACKBONE, 256, 256, torch.bfloat16)
    watch = stepped(faked, 2)
    assert watch.strange == []
    assert "restyle.noise_bias_act.default" in watch.called


@pytest.mark.parametrize(("size", "side"), [(64, 64), (256, 256), (1024, 256)])
@pytest.mark.usefixtures("_fake", "compiled")
def test_latents_are_optimised_on_the_gpu(
    size: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the way back, which torch does not go without a GPU."""
    monkeypatch.setattr(native, "library_for", lambda *_: object())
    monkeypatch.setattr(optimization, "gradient_batch", lambda *_: 8)
    monkeypatch.setattr(torch.autograd, "grad", lambda _, w: (torch.zeros_like(w),))
    network = LPIPS()
    moved(network, DEVICE)
    network.requires_grad_(False)
    monkeypatch.setattr(optimization, "perceptual_network", lambda _: network)
    faked = fake_model(EncoderKind.BACKBONE, size, side, torch.float32)
    faked.generator.requires_grad_(False)
    x = torch.empty(2, 3, side, side, device=DEVICE)
    w = torch.empty(2, faked.n_styles, faked.style_dim, device=DEVICE)
    # ImageNet's means are brought to the GPU once.
    network.features(x)
    with Watch() as watch:
        found = optimization.optimize(faked, x, w, 2)
    assert (found.shape, found.device, found.dtype) == (w.shape, DEVICE, torch.float32)
    # Adam counts its steps on the CPU.
    assert set(watch.strange) == {"aten._local_scalar_dense.default of ['cpu']"}
    assert {"restyle.upfirdn2d.default", "restyle.noise_bias_act.default"} <= watch.called
    # In small images the weights, which a batch shares, take more than the activations.
    needed = gradient_footprint(faked.generator.config)
    assert size < 256 or watch.peak / 2 < needed < watch.peak


@pytest.mark.usefixtures("_fake")
def test_metrics_are_left_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "load_lpips", LPIPS)
    monkeypatch.setattr(recognition, "load_face_embedder", FaceEmbedder)
    monkeypatch.setattr(copy, "deepcopy", lambda network: network)
    names = tuple(METRICS)
    x = torch.empty(2, 3, 64, 64, device=DEVICE)
    measure = MetricSet(names, framing=FFHQ, device=DEVICE).against_there(x)
    # What is brought to the GPU once is there by then.
    measure(x)
    with Watch() as watch:
        measured = measure(x)
    assert watch.strange == []
    assert {name: (each.shape, each.device) for name, each in measured.items()} == dict.fromkeys(
        names, (torch.Size([2]), DEVICE)
    )
