"""Checkpoint files: what is read, what is refused and how, and the project's own format."""

from __future__ import annotations

import argparse
import collections
import decimal
import json
import math
import os
import pathlib
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from restyle.core.checkpoints.conversion import convert, load_generator
from restyle.core.checkpoints.directory import read_model, save_model
from restyle.core.checkpoints.published import published_weights, read_pickle
from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    assemble_encoder,
    assemble_generator,
    expand_average,
    fit,
)
from restyle.core.errors import CheckpointError, FatalError, SpecError
from restyle.core.inference.model import load_model
from restyle.core.networks.config import EncoderKind, file_sha256, find_model, read_config
from tests.restyle_core.fabricate import Fabricator, checkpoint, save

KIND = "BackboneEncoder"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return checkpoint(KIND, 32)


@pytest.fixture(scope="module")
def published(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(content, tmp_path_factory.mktemp("published") / "restyle_psp_ffhq.pt")


@pytest.fixture
def converted(published: Path, tmp_path: Path) -> Path:
    convert(published, tmp_path / "model")
    return tmp_path / "model"


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def reading(content: Any, tmp_path: Path) -> ModelWeights:
    path = save(content, tmp_path / "some.pt")
    return published_weights(read_pickle(path), path)


# --- published files ---------------------------------------------------------------------------


def test_weights_and_settings_of_a_published_file(content: dict[str, Any], published: Path) -> None:
    weights = published_weights(read_pickle(published), published)
    encoder = weights.encoders[weights.default_encoder]
    assert encoder.kind is EncoderKind.BACKBONE
    assert weights.domain.domain == "faces"
    assert weights.domain.align
    assert weights.domain.image_size == (256, 256)
    key = "styles.0.linear.weight"
    assert torch.equal(encoder.state[key], content["state_dict"][f"encoder.{key}"])
    key = "convs.0.conv.weight"
    assert torch.equal(weights.generator[key], content["state_dict"][f"decoder.{key}"])


@pytest.mark.parametrize(
    ("dataset", "domain", "align", "size", "rows"),
    [
        ("ffhq_encode", "faces", True, (256, 256), None),
        # Rows 64 to 448 of the published 512, in a generator of 32.
        ("cars_encode", "cars", False, (192, 256), (4, 28)),
        ("church_encode", "church", False, (256, 256), None),
        ("horse_encode", "horse", False, (256, 256), None),
        ("afhq_wild_encode", "wild", False, (256, 256), None),
    ],
)
def test_domains(
    content: dict[str, Any],
    tmp_path: Path,
    dataset: str,
    domain: str,
    align: bool,
    size: tuple[int, int],
    rows: tuple[int, int] | None,
) -> None:
    opts = {**content["opts"], "dataset_type": dataset}
    found = reading({**content, "opts": opts}, tmp_path).domain
    assert (found.domain, found.align, found.image_size, found.output_rows) == (
        domain,
        align,
        size,
        rows,
    )


def test_options_may_be_a_namespace(content: dict[str, Any], tmp_path: Path) -> None:
    options = argparse.Namespace(**content["opts"])
    weights = reading({**content, "opts": options}, tmp_path)
    assert weights.encoders[weights.default_encoder].kind is EncoderKind.BACKBONE


def test_training_files_and_old_formats_are_read(content: dict[str, Any], tmp_path: Path) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))])
    training = {
        **content,
        "optimizer": optimizer.state_dict(),
        "discriminator_state_dict": {"w": torch.zeros(2)},
        "global_step": 7,
    }
    training["state_dict"] = collections.OrderedDict(content["state_dict"])
    assert reading(training, tmp_path).default_encoder
    path = tmp_path / "legacy.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert load_model(path).n_styles == 8


def test_counters_of_batches_may_be_missing_but_nothing_else(
    content: dict[str, Any], tmp_path: Path
) -> None:
    state = {k: v for k, v in content["state_dict"].items() if not k.endswith("batches_tracked")}
    load_model(save({**content, "state_dict": state}, tmp_path / "old.pt"))


@pytest.mark.parametrize("rows", [None, 1, 8])
def test_averages_of_one_row_or_one_per_style(
    content: dict[str, Any], tmp_path: Path, rows: int | None
) -> None:
    row = torch.randn(32)
    average = row if rows is None else row.repeat(rows, 1)
    model = load_model(save({**content, "latent_avg": average}, tmp_path / "a.pt"), dtype="fp32")
    assert model.latent_avg.shape == (8, 32)
    assert torch.equal(model.latent_avg[5], row)


@pytest.mark.parametrize("average", [torch.zeros(7, 32), torch.full((8, 32), torch.nan)])
def test_other_averages_are_refused(average: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match="latent_avg"):
        expand_average(average, 8, "here")


def change(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    state = dict(content["state_dict"])
    for key, value in changes.pop("state", {}).items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    merged = {**content, "state_dict": state, **changes}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": {"encoder.styles.3.linear.weight": None}}, "1 missing (styles.3.linear.weight)"),
        ({"state": {"encoder.extra": torch.zeros(1)}}, "1 unexpected (extra)"),
        (
            {"state": {"encoder.styles.3.linear.bias": torch.zeros(5)}},
            "1 of another shape (styles.3.linear.bias [5] instead of [32])",
        ),
        ({"state": {"decoder.noises.noise_3": None}}, "noises.noise_3"),
        ({"state": {"decoder.input.input": None}}, "input.input"),
        ({"state": {"decoder.convs.1.conv.weight": torch.zeros(1)}}, "decoder"),
        ({"state": {"other.weight": torch.zeros(1)}}, "unexpected key other.weight"),
        ({"state_dict": None}, "no state_dict"),
        ({"opts": None}, "no opts"),
        ({"latent_avg": "none"}, "latent_avg is no tensor but a str"),
        ({"opts": {"encoder_type": "Nonsense"}}, "'Nonsense'"),
        ({"opts": {"encoder_type": KIND, "output_size": 1024}}, "1024"),
        ({"opts": {"encoder_type": "ResNetBackboneEncoder"}}, "no ResNetBackboneEncoder"),
    ],
)
def test_a_mismatch_is_one_line_that_names_it(
    content: dict[str, Any], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = save(change(content, **changes), tmp_path / "broken.pt")
    with pytest.raises(CheckpointError) as error:
        load_model(path)
    message = one_line(error)
    assert "broken.pt" in message
    if said != "decoder":
        assert said in message


def test_many_differing_keys_are_counted(content: dict[str, Any], tmp_path: Path) -> None:
    state = {k: v for k, v in content["state_dict"].items() if ".res_layer.5." not in k}
    with pytest.raises(CheckpointError, match=r"12 missing \(body\.0\S+, \S+, \S+, \.\.\.\)"):
        load_model(save({**content, "state_dict": state}, tmp_path / "broken.pt"))


def test_an_encoder_for_another_generator_is_refused(
    content: dict[str, Any], tmp_path: Path
) -> None:
    state = {k: v for k, v in content["state_dict"].items() if not k.startswith("encoder.styles.7")}
    with pytest.raises(CheckpointError, match="makes 7 styles of 32, the generator takes 8 of 32"):
        load_model(save({**content, "state_dict": state}, tmp_path / "broken.pt"))


class Runs:
    """Runs code when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(
    content: dict[str, Any], tmp_path: Path, new_format: bool
) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({**content, "opts": Runs(marker)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match="could run code") as error:
        load_model(path)
    assert "mkdir" in one_line(error)
    assert not marker.exists()


def test_namespace_is_allowed_only_while_reading(published: Path, tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_pickle(published)
    assert set(torch.serialization.get_safe_globals()) == before
    assert argparse.Namespace not in before


@pytest.mark.parametrize("value", [pathlib.PurePosixPath("a"), np.zeros(3), decimal.Decimal(1)])
def test_other_classes_are_refused(content: dict[str, Any], tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match="could run code") as error:
        reading({**content, "opts": {"encoder_type": value}}, tmp_path)
    one_line(error)


@pytest.mark.parametrize(
    "value", [torch.zeros(2, 2).to_sparse(), 3, torch.zeros(32, dtype=torch.complex64)]
)
def test_entries_that_are_no_real_dense_tensors_are_refused(
    content: dict[str, Any], tmp_path: Path, value: object
) -> None:
    state = {**content["state_dict"], "encoder.styles.0.linear.bias": value}
    with pytest.raises(CheckpointError, match=r"styles\.0\.linear\.bias"):
        load_model(save({**content, "state_dict": state}, tmp_path / "odd.pt"))


@pytest.mark.parametrize("length", [0, 1, 100, 5000, -1])
def test_a_cut_file_is_one_line(published: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(published.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"cut\.pt") as error:
        load_model(path)
    one_line(error)


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "noise.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        read_pickle(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_other_things_are_one_line(tmp_path: Path) -> None:
    for spec in (tmp_path / "gone.pt", tmp_path):
        with pytest.raises(CheckpointError) as error:
            load_model(spec)
        one_line(error)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_model(tmp_path / "list.pt")


# --- generator files ---------------------------------------------------------------------------


def test_generator_files(content: dict[str, Any], published: Path, tmp_path: Path) -> None:
    state = Fabricator().generator(32, style_dim=32, widths=(16, 16, 8, 8))
    average = torch.randn(32)
    extra = {"d": {"w": torch.zeros(1)}, "g_optim": {"state": {}}}
    path = save({"g_ema": state, "latent_avg": average, **extra}, tmp_path / "generator.pt")
    generator, found = load_generator(path)
    assert found is not None
    assert torch.equal(found, average)
    assert generator.config.widths == (16, 16, 8, 8)
    assert generator.synthesis(torch.zeros(1, 8, 32)).shape == (1, 3, 32, 32)
    with pytest.raises(CheckpointError, match="without an encoder"):
        load_model(path)
    from_encoder, rows = load_generator(published)
    assert from_encoder.config.n_styles == 8
    assert rows is not None


# --- the project's own format ------------------------------------------------------------------


def test_converting_keeps_every_weight(published: Path, converted: Path) -> None:
    before = published_weights(read_pickle(published), published)
    config, after = read_model(converted)
    assert config.domain == "faces"
    assert config.encoders["published"].iterative
    one, other = before.encoders["published"], after.encoders["published"]
    assert one.kind == other.kind
    assert torch.equal(one.latent_avg, other.latent_avg)
    for ours, theirs in ((one.state, other.state), (before.generator, after.generator)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert sorted(path.name for path in converted.iterdir()) == [
        "generator.safetensors",
        "model.json",
        "published.safetensors",
    ]


def test_half_precision_is_loaded_as_float32(published: Path, tmp_path: Path) -> None:
    weights = published_weights(read_pickle(published), published)
    save_model(weights, tmp_path / "full")
    save_model(weights, tmp_path / "half", half=True)
    sizes = [(tmp_path / d / "generator.safetensors").stat().st_size for d in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    exact = weights.encoders["published"]
    half = read_model(tmp_path / "half")[1].encoders["published"]
    assert torch.equal(half.latent_avg, exact.latent_avg)
    generator = assemble_generator(weights.generator, "test")
    loaded = assemble_encoder(half, generator, "test").state_dict()["styles.0.linear.weight"]
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, exact.state["styles.0.linear.weight"], rtol=1e-3, atol=1e-3)


def test_values_beyond_half_precision_are_refused(published: Path, tmp_path: Path) -> None:
    weights = published_weights(read_pickle(published), published)
    encoder = weights.encoders["published"]
    state = {**encoder.state, "styles.0.linear.bias": torch.full((32,), 1e6)}
    large = EncoderWeights(encoder.kind, state, encoder.latent_avg)
    with pytest.raises(CheckpointError, match=r"styles\.0\.linear\.bias"):
        save_model(
            ModelWeights(weights.domain, weights.generator, {"a": large}, "a"),
            tmp_path / "half",
            half=True,
        )
    assert not list(tmp_path.iterdir())


def test_several_encoders_in_one_directory(published: Path, tmp_path: Path) -> None:
    weights = published_weights(read_pickle(published), published)
    first = weights.encoders["published"]
    single = Fabricator(1).encoder(
        "GradualStyleEncoder",
        8,
        in_channels=3,
        style_dim=32,
        widths=(16, 32, 48, 64),
        depths=(1, 1, 1, 1),
    )
    second = EncoderWeights(EncoderKind.GRADUAL_STYLE, single, torch.zeros(32).expand(8, -1))
    both = {"restyle": first, "single-pass": second}
    config = save_model(
        ModelWeights(weights.domain, weights.generator, both, "restyle"), tmp_path / "two"
    )
    assert (config.encoders["restyle"].iterative, config.encoders["single-pass"].iterative) == (
        True,
        False,
    )
    assert load_model(tmp_path / "two").encoder_name == "restyle"
    assert not load_model(f"{tmp_path / 'two'}:single-pass").iterative
    with pytest.raises(SpecError, match="it has restyle, single-pass"):
        load_model(f"{tmp_path / 'two'}:other")
    # What was read from a directory can be written again.
    _, again = read_model(tmp_path / "two", "single-pass")
    save_model(again, tmp_path / "one")
    assert list(read_config(tmp_path / "one").encoders) == ["single-pass"]


def test_nothing_is_overwritten_and_nothing_half_written(published: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(FatalError, match="exists"):
        convert(published, tmp_path / "taken")
    assert not list((tmp_path / "taken").iterdir())
    with pytest.raises(CheckpointError):
        convert(tmp_path / "gone.pt", tmp_path / "model")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FatalError, match="cannot be written") as error:
        convert(published, blocked / "model")
    one_line(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_full_disk_leaves_nothing(published: Path, tmp_path: Path) -> None:
    # To the program a limit of the size of files is a disk without room.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(FatalError, match="File too large"):
            convert(published, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_others_may_read_the_weights(converted: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in converted.iterdir()}
    assert len(modes) > 1
    assert set(modes.values()) == {modes["model.json"]}


def test_an_exchanged_file_is_refused(converted: Path) -> None:
    path = converted / "generator.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged or was exchanged"):
        load_model(converted)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(converted)


def rewrite(directory: Path, **changes: Any) -> None:
    path = directory / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "file", ["../outside.safetensors", "/etc/passwd", "a/../../b", "", "..\\b"]
)
def test_paths_that_leave_the_directory_are_refused(converted: Path, file: str) -> None:
    rewrite(converted, generator={"file": file, "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match=r"generator\.file") as error:
        load_model(converted)
    one_line(error)


def test_links_that_leave_the_directory_are_refused(converted: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    shutil.move(converted / "generator.safetensors", outside)
    (converted / "generator.safetensors").symlink_to(outside)
    with pytest.raises(CheckpointError, match="leads out"):
        load_model(converted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"encoders": {}}, "encoders"),
        ({"default_encoder": "x"}, "default_encoder"),
        ({"output_rows": [448, 64]}, "output_rows"),
        ({"image_size": [0, 64]}, "image_size"),
        ({"image_size": [30000, 30000]}, "image_size"),
        ({"image_size": [256, 1e9]}, "image_size"),
        ({"image_size": [512, 512]}, "takes no images of 512x512 pixels"),
        ({"image_size": [256, 257]}, "takes no images of 256x257 pixels"),
        ({"output_rows": [0, 10**12]}, "output_rows"),
        ({"output_rows": [-8, 8]}, "output_rows"),
        ({"framing_scale": 1e300}, "framing_scale"),
        ({"framing_scale": 0.0}, "framing_scale"),
        ({"framing_scale": math.inf}, "framing_scale"),
        ({"framing_shift": math.nan}, "framing_shift"),
        ({"framing_shift": -1e9}, "framing_shift"),
        ({"name": "x" * 1000}, "name"),
        ({"domain": "x" * 1000}, "domain"),
        ({"name": "x" * 2**20}, "more than 1,048,576 bytes"),
    ],
)
def test_an_invalid_config_is_one_line(converted: Path, changes: dict[str, Any], said: str) -> None:
    rewrite(converted, **changes)
    with pytest.raises(CheckpointError, match=said) as error:
        load_model(converted)
    one_line(error)


@pytest.mark.parametrize("size", [[30000, 256], [256, 1025], [7, 256], [256, -256]])
def test_image_sizes_are_bounded_before_any_weight_is_read(converted: Path, size: Any) -> None:
    rewrite(converted, image_size=size)
    with pytest.raises(CheckpointError, match=r"model\.json is not valid: image_size") as error:
        read_config(converted)
    one_line(error)


@pytest.mark.parametrize("size", [(30000, 30000), (512, 512), (64, 128), (32, 32)])
def test_images_of_a_size_that_an_encoder_does_not_take(tmp_path: Path, size: Any) -> None:
    directory = shutil.copytree(find_model("faces64")[0], tmp_path / "model")
    rewrite(directory, image_size=size)
    with pytest.raises(CheckpointError, match=r"image_size") as error:
        load_model(directory)
    one_line(error)


def test_a_config_that_contradicts_the_weights_is_refused(converted: Path) -> None:
    entry = read_config(converted).encoders["published"].model_dump(mode="json")
    rewrite(converted, encoders={"published": {**entry, "iterative": False}})
    with pytest.raises(CheckpointError, match="contradicts iterative"):
        load_model(converted)


def test_a_file_that_is_no_safetensors_or_lacks_its_average(converted: Path) -> None:
    entry = read_config(converted).encoders["published"].model_dump(mode="json")
    path = converted / "published.safetensors"
    state = load_file(path)
    del state["latent_avg"]
    save_file(state, path)
    rewrite(converted, encoders={"published": {**entry, "sha256": file_sha256(path)}})
    with pytest.raises(CheckpointError, match="has no latent_avg"):
        load_model(converted)
    path.write_bytes(b"nothing of the kind")
    rewrite(converted, encoders={"published": {**entry, "sha256": file_sha256(path)}})
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_model(converted)


def test_loading_copies_no_float32_weight() -> None:
    linear = torch.nn.Linear(3, 2)
    weight, bias = torch.randn(2, 3), torch.randn(2)
    with torch.device("meta"):
        empty = torch.nn.Linear(3, 2)
    fit(empty, {"weight": weight, "bias": bias}, "test")
    assert empty.weight.data_ptr() == weight.data_ptr()
    assert not empty.weight.requires_grad
    del linear
