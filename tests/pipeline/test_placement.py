from __future__ import annotations

import pytest

from pipeline import placement
from pipeline.placement import Placement, choose
from restyle_core import hardware
from restyle_core.errors import SpecError


@pytest.mark.parametrize("dtype", ["auto", "fp32", "bf16"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_choice_is_that_of_torch(dtype: str, device: str) -> None:
    expected = hardware.choose(dtype, device)
    found = choose(dtype, device)
    assert found.device == str(expected.device)
    assert hardware.DTYPES[found.dtype] == expected.dtype
    assert found.reason == expected.dtype_reason


@pytest.mark.parametrize(
    ("flags", "dtype", "reason"),
    [
        ({"avx2"}, "fp32", "fp32: no bf16 instructions on this cpu"),
        ({"avx512_bf16", "amx_bf16"}, "bf16", "bf16: amx_bf16"),
        ({"asimd", "bf16"}, "bf16", "bf16: bf16"),
    ],
)
def test_other_processors(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], dtype: str, reason: str
) -> None:
    monkeypatch.setattr(placement, "_processor_flags", lambda: frozenset(flags))
    assert choose("auto", "cpu") == Placement("cpu", dtype, reason)  # type: ignore[arg-type]


def test_where_there_may_be_an_accelerator_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_has_accelerator", lambda: True)
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: True)
    assert choose("fp32", "auto").device == "cuda"


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(SpecError, match=device):
        choose("auto", device)
