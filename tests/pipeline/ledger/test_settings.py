from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.inversion.operation import INVERSION
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline.resolved import resolved


def test_the_fingerprint_is_a_hash_of_every_field() -> None:
    base = resolved()
    # One that is None is none: outputs from before it existed keep their fingerprint.
    dumped = base.model_dump(mode="json")
    fields = {name: value for name, value in dumped.items() if value is not None}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert base.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    others = [
        resolved(steps=4),
        resolved(align=False),
        resolved(faces="all"),
        resolved(detector="exact"),
        resolved(save_steps="latents"),
        resolved(reconstructions="all"),
        resolved(metrics=("l2",)),
        resolved(dtype="bf16"),
        resolved(fingerprint="b" * 64),
    ]
    assert len({each.fingerprint for each in [base, *others]}) == 10
    assert all(other.differences(base) for other in others)
    assert resolved(steps=4).differences(base) == ["steps: 5 -> 4"]
    assert resolved(metrics=()).differences(base) == [
        "metrics: l2,ms_ssim,lpips,id_similarity -> none"
    ]
    assert base.differences(base) == []


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 101}, {"faces": "two"}, {"x": 1}])
def test_nonsense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InversionSettings(**options)  # type: ignore[arg-type]


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(SpecError, match="beauty"):
        InversionSettings(metrics=("beauty",))


def test_settings_survive_the_ledger_and_damage_is_told(tmp_path: Path) -> None:
    storage, base = open_storage(str(tmp_path)), resolved(metrics=())
    INVERSION.write_settings(storage, base)
    assert INVERSION.read_settings(storage) == base
    storage.write("_ledger/settings.json", b"{}")
    with pytest.raises(FatalError, match=r"settings.json is damaged"):
        INVERSION.read_settings(storage)
