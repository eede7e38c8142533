"""Copies beside a computation: nothing to do on the CPU, and on a GPU what waits for what.

CUDA is not run: stand-ins write down what they are asked, in order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from restyle.core.devices import transfer
from restyle.core.devices.transfer import DeviceTransfer

GPU = torch.device("cuda:1")


def test_on_the_cpu_tensors_are_where_they_belong() -> None:
    here = DeviceTransfer(torch.device("cpu"))
    x = torch.randn(3)
    assert here.upload(x)() is x
    assert here.download(x)() is x


class Log(list[str]):
    """What was asked, one line each, with the stream that was current."""

    stream = "current"

    def note(self, what: str) -> None:
        self.append(f"{self.stream}: {what}")


class Tensor:
    """A tensor that only says what is done with it."""

    def __init__(self, log: Log, name: str, device: torch.device, *, pinned: bool = False) -> None:
        self.log, self.name, self.device, self.pinned = log, name, device, pinned
        self.shape, self.dtype = torch.Size([2]), torch.float32

    def contiguous(self) -> Tensor:
        return self

    def pin_memory(self) -> Tensor:
        return Tensor(self.log, self.name, self.device, pinned=True)

    def to(self, device: torch.device, *, non_blocking: bool) -> Tensor:
        assert self.pinned
        assert non_blocking
        self.log.note(f"copy {self.name} to {device}")
        return Tensor(self.log, self.name, device)

    def copy_(self, other: Tensor, *, non_blocking: bool) -> None:
        assert self.pinned
        assert non_blocking
        self.log.note(f"copy {other.name} from {other.device}")

    def record_stream(self, stream: Any) -> None:
        self.log.note(f"{self.name} is used in {stream.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()

    class Stream:
        def __init__(self, device: torch.device, name: str = "copies") -> None:
            assert device == GPU
            self.name = name

        def record_event(self) -> Any:
            event = f"event of {self.name}"
            log.note(event)
            return SimpleNamespace(
                name=event, synchronize=lambda: log.note(f"the caller waits for the {event}")
            )

        def wait_event(self, event: Any) -> None:
            log.note(f"{self.name} waits for the {event.name}")

        def wait_stream(self, other: Any) -> None:
            log.note(f"{self.name} waits for {other.name}")

    @contextlib.contextmanager
    def within(stream: Stream) -> Iterator[None]:
        before, log.stream = log.stream, stream.name
        yield
        log.stream = before

    def empty(shape: torch.Size, *, dtype: torch.dtype, pin_memory: bool) -> Tensor:
        return Tensor(log, "here", torch.device("cpu"), pinned=pin_memory)

    cuda = SimpleNamespace(
        Stream=Stream, stream=within, current_stream=lambda device: Stream(device, log.stream)
    )
    monkeypatch.setattr(transfer, "torch", SimpleNamespace(cuda=cuda, empty=empty))
    return log


def test_an_upload_is_waited_for_by_the_gpu_alone(log: Log) -> None:
    begin: Callable[..., Any] = DeviceTransfer(GPU).upload
    arrived = begin(Tensor(log, "x", torch.device("cpu")))
    assert log == ["copies: copy x to cuda:1", "copies: event of copies"]
    del log[:]
    assert arrived().device == GPU
    assert log == [
        "current: current waits for the event of copies",
        "current: x is used in current",
    ]


def test_a_download_comes_after_what_made_it_and_the_caller_waits_only_at_the_end(
    log: Log,
) -> None:
    begin: Callable[..., Any] = DeviceTransfer(GPU).download
    arrived = begin(Tensor(log, "y", GPU))
    assert log == [
        "current: copies waits for current",
        "copies: copy y from cuda:1",
        "copies: event of copies",
        "current: y is used in copies",
    ]
    del log[:]
    assert arrived().name == "here"
    assert log == ["current: the caller waits for the event of copies"]


def test_what_is_there_already_stays(log: Log) -> None:
    there = torch.empty(2, device="meta")
    assert DeviceTransfer(torch.device("meta")).upload(there)() is there
    x = torch.randn(2)
    assert DeviceTransfer(GPU).download(x)() is x
    assert log == []
