"""Loading models by every kind of name, choosing dtype and device, and the model's own parts."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import restyle.core as restyle_core
from restyle.core.checkpoints.conversion import convert
from restyle.core.devices import hardware
from restyle.core.errors import CheckpointError, FatalError, SpecError
from restyle.core.imaging.preprocessing import preprocess
from restyle.core.inference.model import Model, load_model
from tests.restyle_core import plain
from tests.restyle_core.fabricate import checkpoint, save


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(checkpoint("BackboneEncoder", 32), tmp_path_factory.mktemp("model") / "faces.pt")


@pytest.fixture(scope="module")
def model(published: Path) -> Model:
    return load_model(published, dtype="fp32")


@pytest.fixture
def embedded(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the folder of embedded models, with one model, ``tiny``."""
    convert(published, tmp_path / "models" / "tiny")
    monkeypatch.setattr("restyle.core.networks.config._EMBEDDED", tmp_path / "models")
    return tmp_path / "models"


# --- names -------------------------------------------------------------------------------------


def test_embedded_names_encoders_and_directories(embedded: Path) -> None:
    for spec in ("tiny", "tiny:published", embedded / "tiny", f"{embedded / 'tiny'}:published"):
        model = load_model(spec)
        assert (model.n_styles, model.style_dim, model.encoder_name) == (8, 32, "published")


def test_an_embedded_name_wins_over_a_folder_of_that_name(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert load_model("tiny").n_styles == 8


def test_unknown_names_list_the_embedded_ones(embedded: Path) -> None:
    with pytest.raises(SpecError, match="no model is called 'faces9000'; embedded are: tiny"):
        load_model("faces9000")
    with pytest.raises(SpecError, match="it has published"):
        load_model("tiny:other")


@pytest.mark.parametrize("spec", ["some/folder", "gone.pt", "/gone/model:encoder"])
def test_paths_that_do_not_exist_are_said_to(spec: str) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(spec)


def test_the_shipped_models_load() -> None:
    from restyle.core.networks.config import embedded_models

    for name in embedded_models():
        assert load_model(name).config.name == name


# --- dtype and device --------------------------------------------------------------------------


def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for capabilities, dtype, reason in (
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16, "bf16: avx512_bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16, "bf16: amx_bf16"),
        ({"avx2": True}, torch.float32, "fp32: no bf16 instructions on this cpu"),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=capabilities: found)
        chosen = hardware.choose()
        assert (chosen.device.type, chosen.dtype, chosen.dtype_reason) == ("cpu", dtype, reason)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, tuple[int, int]], None]:
    """Say which one there is, as the second of two."""

    def there(name: str, capability: tuple[int, int]) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"{name} {device.index}")
        # The other one is older than any.
        monkeypatch.setattr(
            "torch.cuda.get_device_capability",
            lambda device: capability if device.index == 1 else (1, 0),
        )

    return there


def test_auto_follows_the_gpu_that_was_asked_for(
    gpu: Callable[[str, tuple[int, int]], None],
) -> None:
    gpu("A100", (8, 0))
    assert hardware.choose().device.type == "cuda"
    chosen = hardware.choose(device="cuda:1")
    assert (chosen.dtype, chosen.dtype_reason) == (torch.bfloat16, "bf16: A100 1")
    gpu("T4", (7, 5))
    chosen = hardware.choose(device="cuda:1")
    assert chosen.dtype == torch.float32
    assert chosen.dtype_reason == "fp32: no bf16 instructions on T4 1"
    with pytest.raises(SpecError, match="T4 1 does not multiply bfloat16; use --dtype fp32"):
        hardware.choose("bf16", "cuda:1")


def test_tf32_is_a_precision_of_gpus(gpu: Callable[[str, tuple[int, int]], None]) -> None:
    with pytest.raises(SpecError, match="this cpu does not multiply tf32; use --dtype fp32"):
        hardware.choose("tf32", "cpu")
    gpu("T4", (7, 5))
    with pytest.raises(SpecError, match="T4 1 does not multiply tf32; use --dtype fp32"):
        hardware.choose("tf32", "cuda:1")
    gpu("A100", (8, 0))
    chosen = hardware.choose("tf32", "cuda:1")
    assert (chosen.dtype, chosen.tf32) == (torch.float32, True)
    assert chosen.dtype_reason == "tf32: asked for"
    assert not hardware.choose("fp32", "cuda:1").tf32
    assert not hardware.choose("auto", "cuda:1").tf32


def test_float32_is_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hardware.WORKSPACE_VARIABLE, raising=False)
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32 = products.allow_tf32 = True
        hardware.set_up_gpu(torch.device("cpu"))
        assert convolutions.allow_tf32
        assert hardware.WORKSPACE_VARIABLE not in os.environ
        hardware.set_up_gpu(torch.device("cuda:0"))
        assert not convolutions.allow_tf32
        assert not products.allow_tf32
        assert os.environ[hardware.WORKSPACE_VARIABLE] == "1024"
        with hardware.convolving(tf32=True, benchmark=True):
            assert convolutions.allow_tf32
            assert convolutions.benchmark
            # Products of small vectors are exact in any case.
            assert not products.allow_tf32
            with hardware.convolving(tf32=False):
                assert not convolutions.allow_tf32
                assert convolutions.benchmark
            assert convolutions.allow_tf32
        assert not convolutions.allow_tf32
        assert not convolutions.benchmark
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def test_flags_of_this_processor_agree_with_the_system() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "flags" not in cpuinfo.read_text():
        pytest.skip("no x86 /proc/cpuinfo")
    flags = set(cpuinfo.read_text().split())
    wanted = bool(flags & {"avx512_bf16", "amx_bf16"})
    dtype, _ = hardware.choose_dtype("auto", torch.device("cpu"))
    assert (dtype is torch.bfloat16) == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "fp16"}, "auto, fp32 or bf16"),
        ({"device": "warp"}, "'warp' is unknown"),
        ({"device": "cuda:97"}, r"'cuda:97' is not there: torch .*; use --device cpu, or auto"),
    ],
)
def test_unknown_options_are_one_line(options: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        load_model("anything", **options)
    assert "\n" not in str(error.value)


def test_results_are_float32_whatever_is_computed_in(published: Path) -> None:
    model = load_model(published, dtype="bf16")
    assert (model.dtype, model.dtype_reason) == (torch.bfloat16, "bf16: asked for")
    assert {p.dtype for p in model.generator.parameters()} == {torch.float32}
    assert model.generator.dtype is torch.bfloat16
    x = model.preprocess(torch.rand(2, 3, 64, 64) * 2 - 1)
    with torch.inference_mode():
        residual = model.encode(x, x)
        image = model.synthesize(model.latent_avg.expand(2, -1, -1))
    assert residual.dtype == image.dtype == model.latent_avg.dtype == torch.float32


# --- the model's parts -------------------------------------------------------------------------


def test_average_image_is_that_of_the_average_latent(published: Path, model: Model) -> None:
    state = torch.load(published, weights_only=True)["state_dict"]
    image = plain.synthesis(plain.sub(state, "decoder"), model.latent_avg[None])
    expected = F.adaptive_avg_pool2d(image, (256, 256))
    torch.testing.assert_close(model.average_image, expected, atol=2e-5, rtol=1e-4)
    assert model.average_image is model.average_image
    assert not model.average_image.is_inference()


def test_average_image_made_in_inference_mode_can_be_used_outside(published: Path) -> None:
    model = load_model(published, dtype="fp32")
    with torch.inference_mode():
        assert not model.average_image.is_inference()


def test_pieces_of_a_batch_are_rendered_like_the_batch(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(5, 8, 32)
    with torch.inference_mode():
        whole = model.synthesize(latents)
        monkeypatch.setattr(model, "_chunk", 2)
        torch.testing.assert_close(model.synthesize(latents), whole, atol=1e-5, rtol=1e-4)
        assert model.synthesize(latents[:0]).shape == (0, 3, 32, 32)


def test_cars_keep_the_middle_rows(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 512, dataset="cars_encode")
    model = load_model(save(content, tmp_path / "cars.pt"), dtype="fp32")
    latents = torch.randn(1, 16, 32)
    with torch.inference_mode():
        image = model.synthesize(latents)
        whole = model.generator.synthesis(latents)
    assert image.shape == (1, 3, 384, 512)
    torch.testing.assert_close(image, whole[:, :, 64:448], atol=2e-5, rtol=1e-4)
    pooled = model.pool(image)
    assert pooled.shape == (1, 3, 192, 256)
    torch.testing.assert_close(pooled, F.avg_pool2d(image, 2))
    assert model.average_image.shape == (1, 3, 192, 256)


def test_cars_rows_must_lie_in_the_image(tmp_path: Path) -> None:
    path = save(checkpoint("BackboneEncoder", 32, dataset="cars_encode"), tmp_path / "cars.pt")
    convert(path, tmp_path / "cars")
    config = tmp_path / "cars" / "model.json"
    content = json.loads(config.read_text())
    assert content["output_rows"] == [4, 28]
    load_model(tmp_path / "cars")
    config.write_text(json.dumps({**content, "output_rows": [64, 448]}))
    with pytest.raises(CheckpointError, match="outside of the 32 generated rows"):
        load_model(tmp_path / "cars")


# --- fingerprint -------------------------------------------------------------------------------


def test_fingerprint_follows_what_changes_a_latent_and_nothing_else(
    published: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed.pt"
    renamed.write_bytes(published.read_bytes())
    first = load_model(published).fingerprint
    assert len(first) == 64
    assert load_model(renamed).fingerprint == first
    other = save(checkpoint("BackboneEncoder", 32, seed=1), tmp_path / "other.pt")
    assert load_model(other).fingerprint != first

    convert(published, tmp_path / "model")
    base = load_model(tmp_path / "model").fingerprint
    path = tmp_path / "model" / "model.json"
    original = json.loads(path.read_text())
    for change, same in (
        ({"name": "another"}, True),
        ({"framing_scale": 0.7}, False),
        ({"image_size": [128, 128]}, False),
    ):
        path.write_text(json.dumps({**original, **change}))
        assert (load_model(tmp_path / "model").fingerprint == base) == same


# --- preprocessing -----------------------------------------------------------------------------


def test_eight_bit_images_at_the_right_size_are_only_scaled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    pictures = [Image.fromarray(image) for image in pixels]
    for images in (pixels, torch.from_numpy(pixels), pictures):
        batch = preprocess(images, (16, 24))
        assert batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(batch, expected, atol=1e-6, rtol=0)
    assert torch.equal(preprocess(expected, (16, 24)), expected)


def test_resizing_is_pillows_and_squashes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 60, 90, 3), dtype=np.uint8)
    batch = preprocess(pixels, (32, 32))
    resized = Image.fromarray(pixels[0]).resize((32, 32), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(batch[0], expected, atol=1e-6, rtol=0)
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    # Pillow rounds to whole grey levels after each of its two passes.
    torch.testing.assert_close(preprocess(floats, (32, 32)), batch, atol=2 / 127.5, rtol=0)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 64, 64),
        torch.zeros(2, 64, 64, 3),
        torch.zeros(2, 4, 64, 64),
        torch.full((1, 3, 64, 64), 255.0),
        torch.full((1, 3, 64, 64), torch.nan),
        np.zeros((2, 64, 64, 4), dtype=np.uint8),
        np.zeros((2, 64, 64, 3), dtype=np.int64),
        Image.new("RGB", (64, 64)),
        ["a.jpg"],
    ],
)
def test_other_images_are_refused(images: object) -> None:
    with pytest.raises(SpecError, match="images"):
        preprocess(images, (64, 64))  # type: ignore[arg-type]


# --- public names ------------------------------------------------------------------------------


def test_public_names_are_complete_and_documented() -> None:
    stub = Path(restyle_core.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    homes = {
        alias.name: f"restyle.core.{node.module}"
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(restyle_core.__all__) == list(restyle_core.__all__) == sorted(homes)
    assert set(restyle_core.__all__) <= set(dir(restyle_core))
    for name in restyle_core.__all__:
        value = getattr(restyle_core, name)
        assert value.__doc__, name
        assert value.__module__ == homes[name]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = restyle_core.nonsense


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, restyle_core, restyle.core.networks.config\n"
        "print(sorted({'torch', 'dlib', 'numpy', 'PIL', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_operators_can_be_chosen_and_are_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESTYLE_KERNELS", raising=False)
    native = load_model(tiny_model, dtype="fp32", impl="native")
    plain = load_model(tiny_model, dtype="fp32", impl="reference")
    assert native.kernels.startswith("native: ")
    assert plain.kernels == "reference: asked for"
    w = torch.randn(2, native.n_styles, native.style_dim)
    with torch.inference_mode():
        ours, theirs = native.synthesize(w), plain.synthesize(w)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    monkeypatch.setenv("RESTYLE_KERNELS", "fast")
    with pytest.raises(FatalError, match="'fast' are no kernels; use auto, native, reference"):
        load_model(tiny_model)
