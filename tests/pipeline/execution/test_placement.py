from __future__ import annotations

import pytest

from restyle.core.devices import hardware
from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.execution import placement
from restyle.pipeline.execution.placement import PLAIN, Placement, choose, operators
from restyle.pipeline.execution.request import Workers


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


def test_tf32_needs_a_gpu_and_is_told_apart_from_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="does not multiply tf32; use --dtype fp32"):
        choose("tf32", "cpu")
    monkeypatch.setattr(placement, "_has_accelerator", lambda: True)
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware.torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(hardware.torch.cuda, "get_device_name", lambda _: "A100")
    assert choose("tf32", "auto") == Placement("cuda", "tf32", "tf32: asked for")
    assert choose("fp32", "auto").dtype == "fp32"


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(SpecError, match=device):
        choose("auto", device)


@pytest.mark.parametrize(
    ("dtype", "device", "gpus_per_actor", "expected"),
    [
        ("auto", "cuda", None, ("cuda", "bf16", "bf16: GPUs of the cluster")),
        ("fp32", "cuda", None, ("cuda", "fp32", "fp32: asked for")),
        ("tf32", "cuda", None, ("cuda", "tf32", "tf32: asked for")),
        ("bf16", "auto", 0.5, ("cuda", "bf16", "bf16: asked for")),
        ("fp32", "auto", 0.0, ("cpu", "fp32", "fp32: asked for")),
        ("fp32", "cpu", 1.0, ("cpu", "fp32", "fp32: asked for")),
    ],
)
def test_gpus_of_a_cluster_need_not_be_here(
    dtype: str, device: str, gpus_per_actor: float | None, expected: tuple[str, str, str]
) -> None:
    workers = Workers(address="10.0.0.1:6379", gpus_per_actor=gpus_per_actor)
    placement = choose(dtype, device, workers)
    assert (placement.device, placement.dtype, placement.reason) == expected


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_cluster_is_asked_for_its_gpus(
    monkeypatch: pytest.MonkeyPatch, there: bool, device: str
) -> None:
    from restyle.pipeline.execution.ray import engine

    asked: list[str] = []

    def has_gpus(address: str) -> bool:
        asked.append(address)
        return there

    monkeypatch.setattr(engine, "has_gpus", has_gpus)
    assert choose("fp32", "auto", Workers(address="head:6379")).device == device
    assert asked == ["head:6379"]


@pytest.mark.parametrize(("dtype", "device"), [("auto", "cuda:1"), ("int4", "cuda")])
def test_what_a_cluster_cannot_do(dtype: str, device: str) -> None:
    with pytest.raises(SpecError, match=r"cuda|int4"):
        choose(dtype, device, Workers(address="auto"))


def test_the_operators_are_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESTYLE_KERNELS", raising=False)
    assert operators("cpu").startswith("native: ")
    monkeypatch.setenv("CXX", "no-such-compiler")
    plain = operators("cpu", Workers())
    assert plain.startswith(f"{PLAIN}no C++ compiler: no-such-compiler not found")
    assert operators("cuda", Workers(address="auto")) == "chosen by each worker"
    monkeypatch.setenv("RESTYLE_KERNELS", "native")
    with pytest.raises(FatalError, match="no-such-compiler not found; install"):
        operators("cpu")
