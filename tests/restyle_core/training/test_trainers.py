"""Both trainers on a toy domain: they learn, and a run that was stopped equals one that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restyle.core.errors import CheckpointError, SpecError
from restyle.core.networks.config import embedded_models
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.encoders.trainer import EncoderTrainer
from restyle.core.training.generators.distillation import GeneratorTrainer, load_trained_generator
from restyle.core.training.generators.spec import GeneratorSpec
from tests.restyle_core.training.runs import log_of, toml, train_with_two_processes

Z_DIM = 4


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat colours that are a function of z, which a generator of any size can learn."""
    z = np.random.default_rng(0).standard_normal((64, Z_DIM)).astype(np.float32)
    colours = (127.5 + 60 * np.tanh(z[:, :3])).astype(np.uint8)
    path = tmp_path_factory.mktemp("crops") / "crops.npz"
    np.savez(path, images=np.broadcast_to(colours[:, None, None], (64, 32, 32, 3)), z=z)
    return path


def generator_spec(
    crops: Path, images: int, *, batch: int = 4, adversarial: dict[str, float] | None = None
) -> GeneratorSpec:
    return GeneratorSpec.model_validate(
        {
            "name": "toy",
            "crops": [crops],
            "schedule": {
                "images": images,
                "batch": batch,
                "dtype": "fp32",
                "checkpoint_every": 8,
                "sample_every": 1000,
                "log_every": 8,
            },
            "generator": {"widths": [16] * 4, "style_dim": 32, "z_dim": Z_DIM, "mapping_layers": 2},
            "distillation": {"lpips": 0.1, "identity": 0.1},
            "adversarial": adversarial or {"weight": 0.0},
            "optimizer": {"mapping_factor": 10.0, "decay_from": 1.0},
        }
    )


def encoder_spec(crops: Path, generator: Path, images: int, **changes: object) -> EncoderSpec:
    values = {
        "name": "toy",
        "generator": str(generator),
        "crops": [crops],
        "widths": [16] * 4,
        "depths": [1] * 4,
        "fine_width": 16,
        "min_steps": 1,
        "steps": 3,
        "synthetic": 0.5,
        "schedule": {
            "images": images,
            "batch": 4,
            "dtype": "fp32",
            "checkpoint_every": 8,
            "sample_every": 1000,
            "log_every": 8,
        },
        "losses": {"identity_share": 0.5, "latent": 0.1},
        "optimizer": {"lr": 1e-3, "decay_from": 1.0, "ema_half_life": 16},
    }
    return EncoderSpec.model_validate(values | changes)


@pytest.fixture(scope="module")
def generator_run(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    GeneratorTrainer(generator_spec(crops, 320), folder).run(lambda _: None)
    return folder


def test_the_generator_learns(generator_run: Path) -> None:
    log = [json.loads(line) for line in (generator_run / "losses.jsonl").read_text().splitlines()]
    assert np.mean([line["pixels"] for line in log[-5:]]) < 0.6 * log[0]["pixels"]
    assert (generator_run / "samples" / "00000320.png").is_file()


def checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {
        f"{part}.{key}": value
        for part in (
            *("average", "encoder", "generator", "heads"),
            *("discriminator", "discriminator_pool"),
        )
        if part in state
        for key, value in state[part].items()
    }


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], rtol=0, atol=1e-6, msg=key)


def test_a_resumed_generator_equals_an_uninterrupted_one(crops: Path, tmp_path: Path) -> None:
    # The heads join half-way, so their weights and optimizer are resumed as well.
    GeneratorTrainer(
        generator_spec(crops, 32, adversarial={"from_image": 8}), tmp_path / "whole"
    ).run(lambda _: None)
    GeneratorTrainer(
        generator_spec(crops, 16, adversarial={"from_image": 8}), tmp_path / "parts"
    ).run(lambda _: None)
    GeneratorTrainer(
        generator_spec(crops, 32, adversarial={"from_image": 8}), tmp_path / "parts"
    ).run(lambda _: None)
    assert_same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))


@pytest.mark.parametrize("iterative", [True, False])
def test_the_encoder_learns(
    crops: Path, generator_run: Path, tmp_path: Path, iterative: bool
) -> None:
    # Pixels only: the other networks take most of the time and teach nothing about flat colours.
    spec = encoder_spec(
        crops,
        generator_run,
        800,
        iterative=iterative,
        losses={"lpips": 0.0, "identity": 0.0},
        optimizer={"lr": 5e-3, "decay_from": 1.0, "ema_half_life": 16, "update": "step"},
    )
    EncoderTrainer(spec, tmp_path).run(lambda _: None)
    log = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    start, end = (np.mean([line["l2_last"] for line in part]) for part in (log[:5], log[-10:]))
    assert end < 0.6 * start


@pytest.mark.parametrize("update", ["batch", "step"])
def test_a_resumed_encoder_equals_an_uninterrupted_one(
    crops: Path, generator_run: Path, tmp_path: Path, update: str
) -> None:
    optimizer = {"lr": 1e-3, "decay_from": 1.0, "ema_half_life": 16, "update": update}
    for folder, lengths in (("whole", (32,)), ("parts", (16, 32))):
        for images in lengths:
            spec = encoder_spec(crops, generator_run, images, optimizer=optimizer)
            EncoderTrainer(spec, tmp_path / folder).run(lambda _: None)
    assert_same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))


E4E = {"stages_from": 8, "stage_every": 4, "pool": 10, "adversarial": 0.1}


def test_e4e_learns_within_reach_of_w(crops: Path, generator_run: Path, tmp_path: Path) -> None:
    spec = encoder_spec(
        crops,
        generator_run,
        480,
        losses={"lpips": 0.0, "identity": 0.0, "w_norm": 1e-4},
        e4e=E4E | {"delta_norm": 1e-3, "stages_from": 160, "stage_every": 0},
        optimizer={"lr": 5e-3, "decay_from": 1.0, "ema_half_life": 16, "update": "step"},
    )
    EncoderTrainer(spec, tmp_path).run(lambda _: None)
    log = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    start, end = (np.mean([line["l2_last"] for line in part]) for part in (log[:5], log[-10:]))
    assert end < 0.7 * start
    differences = [line["delta_norm_last"] for line in log]
    assert max(differences[:20]) == 0 < min(differences[21:])


def flat(state: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {
        key: value
        for at, part in items
        if isinstance(part, torch.Tensor | dict | list | tuple)
        for key, value in flat(part, f"{name}.{at}").items()
    }


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    crops: Path, generator_run: Path, tmp_path: Path
) -> None:
    """SIGKILL, between two checkpoints and two lines of the log."""
    schedule = {"images": 40, "batch": 4, "dtype": "fp32", "threads": 1, "seed": 3}
    every = {"checkpoint_every": 12, "sample_every": 1000, "log_every": 8}
    held = tmp_path / "held.npz"
    held.write_bytes(crops.read_bytes())
    validation = {"crops": [str(held)], "images": 6, "every": 8}
    spec = encoder_spec(
        crops, generator_run, 40, e4e=E4E, schedule=schedule | every, validation=validation
    )
    threads = torch.get_num_threads()
    EncoderTrainer(spec, tmp_path / "whole").run(lambda _: None)
    torch.set_num_threads(threads)
    text = toml(spec.model_dump(mode="json", exclude_none=True))
    (tmp_path / "spec.toml").write_text(text)
    command = [sys.executable, "-u", "-m", "restyle.jobs.cli", "train", "encoder"]
    command += [str(tmp_path / "spec.toml"), "--out", str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("images 32"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["step"] < 10
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    names = ("whole", "killed")
    whole, killed = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in names
    )
    assert_same(flat(whole), flat(killed))
    ours, theirs = log_of(tmp_path / "whole"), log_of(tmp_path / "killed")
    assert [line["images"] for line in theirs] == [8, 16, 24, 32, 40]
    for expected, found in zip(ours, theirs, strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
    for expected, found in zip(
        *((tmp_path / name / "validation.jsonl").read_text().splitlines() for name in names),
        strict=True,
    ):
        assert json.loads(found) == pytest.approx(json.loads(expected), abs=1e-6)


def test_two_processes_equal_one(crops: Path, generator_run: Path, tmp_path: Path) -> None:
    schedule = {"images": 16, "batch": 4, "dtype": "fp32", "threads": 1, "seed": 3}
    every = {"checkpoint_every": 100, "sample_every": 100, "log_every": 4}
    e4e = E4E | {"stages_from": 4}
    spec = encoder_spec(crops, generator_run, 16, e4e=e4e, schedule=schedule | every)
    threads = torch.get_num_threads()
    EncoderTrainer(spec, tmp_path / "one").run(lambda _: None)
    torch.set_num_threads(threads)
    train_with_two_processes("encoder", spec, tmp_path / "two")
    ours, theirs = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [line["images"] for line in theirs] == [4, 8, 12, 16]
    for expected, found in zip(ours, theirs, strict=True):
        assert found == pytest.approx(expected, abs=2e-5)
    one, two = (checkpoint(tmp_path / name) for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-4, rtol=1e-3, msg=key)


def test_two_processes_distil_what_one_does(crops: Path, tmp_path: Path) -> None:
    """The heads join half-way, with free z of their own."""
    # The last bias of a head cancels out of the hinge loss; Adam moves it by its rate all the same,
    # to the side that rounding decides.
    heads = {"from_image": 16, "lr": 1e-5}
    spec = generator_spec(crops, 32, batch=8, adversarial=heads)
    GeneratorTrainer(spec, tmp_path / "one").run(lambda _: None)
    train_with_two_processes("generator", spec, tmp_path / "two")
    ours, theirs = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [line["images"] for line in theirs] == [8, 16, 24, 32]
    assert "heads" in theirs[-1]
    for expected, found in zip(ours, theirs, strict=True):
        assert found == pytest.approx(expected, abs=2e-5)


def test_e4e_resumes_its_discriminator(crops: Path, generator_run: Path, tmp_path: Path) -> None:
    for folder, lengths in (("whole", (32,)), ("parts", (16, 32))):
        for images in lengths:
            spec = encoder_spec(crops, generator_run, images, e4e=E4E)
            EncoderTrainer(spec, tmp_path / folder).run(lambda _: None)
    assert_same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert "discriminator.layers.0.weight" in checkpoint(tmp_path / "whole")


@pytest.mark.parametrize("backbone", ["ir-se50", "resnet34"])
def test_published_backbones_train(
    crops: Path, generator_run: Path, tmp_path: Path, backbone: str
) -> None:
    spec = encoder_spec(
        crops,
        generator_run,
        8,
        backbone=backbone,
        widths=[16, 24, 32, 40],
        fine_width=192,
        e4e=E4E,
        losses={"lpips": 0.0, "identity": 0.0},
    )
    trainer = EncoderTrainer(spec, tmp_path)
    start = {key: value.clone() for key, value in trainer.encoder.state_dict().items()}
    trainer.run(lambda _: None)
    moved = [
        key for key, value in trainer.encoder.state_dict().items() if not value.equal(start[key])
    ]
    assert {key.split(".")[0] for key in moved} >= {"body", "styles"}


def test_a_specification_of_an_older_release_is_the_same_run(
    crops: Path, generator_run: Path, tmp_path: Path
) -> None:
    EncoderTrainer(encoder_spec(crops, generator_run, 4), tmp_path).run(lambda _: None)
    known = json.loads((tmp_path / "spec.json").read_text())
    for key in ("init", "backbone", "e4e"):
        del known[key]
    del known["losses"]["w_norm"]
    (tmp_path / "spec.json").write_text(json.dumps(known))
    assert EncoderTrainer(encoder_spec(crops, generator_run, 8), tmp_path).step == 1
    with pytest.raises(SpecError, match="another e4e"):
        EncoderTrainer(encoder_spec(crops, generator_run, 8, e4e={}), tmp_path)


def test_an_encoder_can_be_trained_for_a_model() -> None:
    generator, latent_avg = load_trained_generator("faces64")
    assert (generator.config.size, latent_avg.shape) == (64, (10, 512))
    assert torch.equal(load_trained_generator(embedded_models()["faces64"])[1], latent_avg)


def test_a_folder_of_another_run_is_refused(crops: Path, generator_run: Path) -> None:
    other = generator_spec(crops, 320).model_copy(update={"framing_scale": 0.5})
    with pytest.raises(SpecError, match="another framing_scale"):
        GeneratorTrainer(other, generator_run)


def test_a_damaged_checkpoint_is_one_line(crops: Path, tmp_path: Path) -> None:
    GeneratorTrainer(generator_spec(crops, 4), tmp_path).run(lambda _: None)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        GeneratorTrainer(generator_spec(crops, 4), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_and_its_generator_file_decode_alike(generator_run: Path, tmp_path: Path) -> None:
    generator, latent_avg = load_trained_generator(generator_run)
    file = tmp_path / "generator.pt"
    torch.save({"g_ema": generator.state_dict(), "latent_avg": latent_avg[0].clone()}, file)
    from_file, average = load_trained_generator(file)
    torch.testing.assert_close(average, latent_avg)
    torch.testing.assert_close(
        from_file.synthesis(average[None]), generator.synthesis(latent_avg[None])
    )
