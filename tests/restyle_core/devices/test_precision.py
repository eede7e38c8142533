"""One table of what ``auto`` and the precisions by name come to."""

from __future__ import annotations

import itertools

import pytest
import torch

from restyle.core.devices.hardware import DTYPES
from restyle.core.devices.precision import PRECISIONS, choose_precision, cpu_support
from restyle.core.errors import SpecError


@pytest.mark.parametrize(
    ("dtype", "support", "is_gpu", "expected"),
    [
        ("auto", "amx", False, ("bf16", "bf16: amx")),
        ("auto", "H100", True, ("bf16", "bf16: H100")),
        ("auto", None, False, ("fp32", "fp32: no bf16 instructions on it")),
        ("auto", None, True, ("fp32", "fp32: no bf16 instructions on it")),
        ("fp32", None, True, ("fp32", "fp32: asked for")),
        ("bf16", None, False, ("bf16", "bf16: asked for")),
        ("bf16", "H100", True, ("bf16", "bf16: asked for")),
        ("tf32", "H100", True, ("tf32", "tf32: asked for")),
        ("bf16", None, True, "it does not multiply bfloat16; use --dtype fp32"),
        ("tf32", None, True, "it does not multiply tf32; use --dtype fp32"),
        ("tf32", "amx", False, "it does not multiply tf32; use --dtype fp32"),
        ("int4", "H100", True, "dtype 'int4' is unknown; use auto, fp32 or bf16"),
        ("", None, False, "dtype '' is unknown"),
    ],
)
def test_every_request(
    dtype: str, support: str | None, is_gpu: bool, expected: tuple[str, str] | str
) -> None:
    def choose() -> tuple[str, str]:
        return choose_precision(dtype, lambda: support, lambda: "it", is_gpu=is_gpu)

    if isinstance(expected, str):
        with pytest.raises(SpecError, match=expected):
            choose()
    else:
        assert choose() == expected


def test_every_precision_is_a_dtype() -> None:
    assert tuple(DTYPES) == PRECISIONS
    assert {*DTYPES.values()} == {torch.float32, torch.bfloat16}


def test_the_best_instructions_are_named() -> None:
    names = ("amx_bf16", "avx512_bf16", "bf16")
    for count in range(4):
        for there in itertools.combinations(names, count):
            assert cpu_support(("avx2", *reversed(there))) == (there[0] if there else None)
