"""Ways are tried where that means something, once for a shape, and what they give is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.devices import fastest
from restyle.core.devices.fastest import Fastest
from restyle.core.networks import convolution
from restyle.core.networks.convolution import doubling, in_best_layout

LAST = torch.channels_last


def ways(called: list[str]) -> list[Callable[[Tensor], Tensor]]:
    def way(name: str) -> Callable[[Tensor], Tensor]:
        def compute(x: Tensor) -> Tensor:
            called.append(name)
            if name == "large" and len(x) > 2:
                raise torch.OutOfMemoryError("too large")
            return x + 1

        return compute

    return [way("first"), way("large"), way("last")]


def test_the_fastest_is_chosen_for_each_shape_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "_measurable", lambda _: True)
    called: list[str] = []

    def seconds(call: Callable[[], object]) -> float:
        call()
        return {"first": 3.0, "large": 1.0, "last": 2.0}[called[-1]]

    chosen = Fastest(ways(called), seconds)
    for count, expected in ((2, "large"), (3, "last")):
        torch.testing.assert_close(chosen(torch.zeros(count, 5)), torch.ones(count, 5))
        assert called == ["first", "large", "last", expected]
        del called[:]
        chosen(torch.zeros(count, 5))
        assert called == [expected]
        del called[:]


def test_without_a_gpu_nothing_is_tried() -> None:
    called: list[str] = []
    chosen = Fastest(ways(called), lambda _: pytest.fail("nothing can be measured here"))
    chosen(torch.zeros(2, 5))
    assert called == ["first"]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_all_forms_of_a_convolution_give_the_same(
    size: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Fastest] = []

    class Noted(Fastest):
        def __init__(self, ways: list[Callable[[Tensor], Tensor]]) -> None:
            super().__init__(ways)
            made.append(self)

    monkeypatch.setattr(convolution, "Fastest", Noted)
    x = torch.randn(2, 6, *size, dtype=dtype).contiguous(memory_format=LAST)
    weight = torch.randn(6, 5, 3, 3, dtype=dtype)
    doubling(weight)
    flat = torch.randn(5, 6, 3, 3, dtype=dtype)
    in_best_layout(flat, lambda x, weight: F.conv2d(x, weight, padding=1))
    # In float32 both layouts of both, and the phases.
    assert len(made) == (3 if dtype == torch.float32 else 1)
    for each in made:
        results = [way(x) for way in each._ways]
        exact = (
            F.conv2d(x.double(), flat.double(), padding=1)
            if results[0].shape[2:] == x.shape[2:]
            else F.conv_transpose2d(x.double(), weight.double(), stride=2)
        )
        for result in results:
            assert result.is_contiguous(memory_format=LAST)
            torch.testing.assert_close(result.double(), exact, atol=1e-4, rtol=1e-4)
