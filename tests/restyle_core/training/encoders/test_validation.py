"""What validation computes and keeps, on images small enough to check by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restyle.core.errors import SpecError
from restyle.core.faces.alignment import Framing
from restyle.core.training.encoders.reconstruction import LossNetworks
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.encoders.validation import Validator
from restyle.core.training.journal import Journal
from restyle.core.training.spec import load_spec


@pytest.fixture
def held(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "held.npz", images=images)
    return tmp_path / "held.npz"


def spec(held: Path, **changes: Any) -> EncoderSpec:
    values = {
        "name": "toy",
        "generator": "g",
        "crops": ["c.npz"],
        "schedule": {"images": 8, "batch": 2},
        "losses": {"l2": 3.0, "lpips": 0.0, "identity": 0.5, "identity_share": 0.1},
        "validation": {"crops": [held], "images": 5, "every": 4},
    }
    return EncoderSpec.model_validate(values | changes)


def validator_of(held: Path, journal: Journal, side: int = 32) -> Validator:
    wanted = spec(held)
    assert wanted.validation is not None
    return Validator(wanted.validation, wanted, side, journal)


def test_losses_are_means_over_images_whatever_the_batch(held: Path, tmp_path: Path) -> None:
    validator = validator_of(held, Journal(tmp_path / "run", {}))
    networks = LossNetworks(Framing(1.0, 0.0))
    losses = validator.evaluate(lambda images: images * 0.5, networks, torch.float32)
    images = torch.from_numpy(np.load(held)["images"]).permute(0, 3, 1, 2) / 127.5 - 1
    assert losses["l2"] == pytest.approx(3.0 * float((images * 0.5).square().mean()), rel=1e-5)
    with torch.no_grad():
        a, b = (networks.identity(x, torch.float32) for x in (images, images * 0.5))
        angle = 1 - torch.nn.functional.cosine_similarity(a, b).mean()
    # The weight itself: raising it is for steps that draw by chance whether they pay.
    assert losses["identity"] == pytest.approx(0.5 * float(angle), abs=1e-5)
    assert losses["total"] == pytest.approx(losses["l2"] + losses["identity"])


def test_the_best_is_kept_and_a_resumed_run_takes_lines_back(held: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {})
    validator = validator_of(held, journal)
    for seen, total in ((4, 0.5), (8, 0.3), (12, 0.4)):
        if seen == 12:
            checkpoint = validator.state_dict()
        validator.record(seen, {"total": total}, {"average": torch.tensor(seen)})
    best = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert (int(best["average"]), best["images"], best["total"]) == (8, 8, 0.3)
    resumed = validator_of(held, journal)
    resumed.load_state_dict(checkpoint)
    resumed.record(12, {"total": 0.4}, {"average": torch.tensor(12)})
    journal.close()
    lines = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [4, 8, 12]
    assert int(torch.load(tmp_path / "run" / "best.pt", weights_only=True)["average"]) == 8


def test_crops_of_another_size_are_refused(held: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"validation\.crops are 32 pixels wide, the crops 64"):
        validator_of(held, Journal(tmp_path / "run", {}), side=64)


def test_what_is_trained_on_cannot_validate(held: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        'name = "toy"\ngenerator = "faces64"\ncrops = ["held.npz"]\n[schedule]\nimages = 8\n'
        '[validation]\ncrops = ["../' + tmp_path.name + '/held.npz"]\n'
    )
    with pytest.raises(SpecError, match="among the crops of both training and validation"):
        load_spec(tmp_path / "spec.toml", EncoderSpec)
