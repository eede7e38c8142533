"""An S3 server that is overloaded, hangs, drops connections, loses answers or refuses access."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from PIL import Image
from s3fs import S3FileSystem

from restyle.core.errors import FatalError, TransientError
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import driver_lock
from tests.pipeline.in_process import in_process
from tests.s3_server import FaultyProxy, every, faulty_s3, first

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning"
)

NAMES = [f"_ledger/unit-{number:03d}.json" for number in range(40)]
PASSING = ["503", "reset", "skewed", "lost"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setenv("RESTYLE_RETRIES", "5:0.05")
    with faulty_s3(monkeypatch) as proxy:
        yield proxy


@pytest.fixture
def storage(server: FaultyProxy) -> Iterator[Storage]:
    S3FileSystem.clear_instance_cache()
    yield open_storage("s3://bucket/some run")
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(server: FaultyProxy, storage: Storage, fault: str) -> None:
    # More in a row than the client tries again by itself.
    server.rule = first(3, fault)
    storage.write("run.json", b"{}")
    assert server.met[fault] == 3
    server.rule = first(3, fault)
    assert storage.read("run.json") == b"{}"
    server.rule = first(3, fault)
    assert storage.sizes("") == {"run.json": 2}
    server.rule = first(3, fault)
    storage.delete("run.json")
    server.rule = lambda method, path: ""
    assert storage.sizes("") == {}


def test_many_reads_while_every_third_fails(server: FaultyProxy, storage: Storage) -> None:
    for name in NAMES:
        storage.write(name, name.encode())
    server.seen.clear()
    server.rule = every(3, "503", "^GET")
    assert storage.read_many(NAMES) == [name.encode() for name in NAMES]
    # What was read is not read again: a third of what is left each time.
    assert server.seen["GET"] < 2 * len(NAMES)
    assert server.seen["HEAD"] == 0


def test_an_answer_that_is_cut_off_is_no_answer(server: FaultyProxy, storage: Storage) -> None:
    storage.write("latents/part.parquet", bytes(1 << 20))
    server.rule = first(2, "cut", "^GET")
    assert storage.read("latents/part.parquet") == bytes(1 << 20)
    assert server.met["cut"] == 2


def test_a_server_that_hangs_is_left_after_the_time_limit(
    server: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTYLE_STORAGE_TIMEOUT", "0.5")
    S3FileSystem.clear_instance_cache()
    storage = open_storage("s3://bucket/some run")
    storage.write("run.json", b"{}")
    server.rule = first(3, "hang")
    began = time.monotonic()
    assert storage.read("run.json") == b"{}"
    assert 1.5 < time.monotonic() - began < 10
    monkeypatch.setenv("RESTYLE_RETRIES", "2:0.05")
    server.rule = every(1, "hang")
    # Takes the headers and then neither the content nor a word.
    with pytest.raises(TransientError, match=r"in time.*\(tried 2 times\)") as caught:
        storage.write("run.json", b"new")
    assert "\n" not in str(caught.value)
    S3FileSystem.clear_instance_cache()


def test_refused_access_is_told_at_once_in_one_line(server: FaultyProxy, storage: Storage) -> None:
    server.rule = every(1, "403")
    calls = [
        lambda: storage.write("run.json", b"{}"),
        lambda: storage.read("run.json"),
        lambda: storage.sizes("latents"),
        lambda: storage.delete("run.json"),
        storage.check_writable,
    ]
    for call in calls:
        server.met.clear()
        with pytest.raises(FatalError, match=r"s3://bucket/some run.*access denied") as caught:
            call()
        assert "\n" not in str(caught.value)
        assert server.met["403"] == 1, "no use in asking twice"


def test_a_bucket_that_is_not_there(server: FaultyProxy) -> None:
    with pytest.raises(FatalError, match="s3://nowhere/out"):
        open_storage("s3://nowhere/out").write("run.json", b"{}")


def test_the_lock_needs_no_conditional_writes(server: FaultyProxy, storage: Storage) -> None:
    server.rule = every(4, "503")
    with driver_lock(storage, Listener(), beat=0.2) as held:
        deadline = time.monotonic() + 20
        while server.seen["PUT"] < 8:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        held.check()
    server.rule = lambda method, path: ""
    assert storage.sizes("_ledger") == {}
    assert server.met["conditional"] == 0


INPUTS = 20


@pytest.fixture
def request_of(storage: Storage, tiny_model: Path) -> Request:
    """Inputs and output on the same server."""
    inputs = open_storage("s3://bucket/inputs")
    for number in range(INPUTS):
        target = io.BytesIO()
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(target, "png")
        inputs.write(f"{number:02d}.png", target.getvalue())
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=(), reconstructions="none",
        dtype="fp32",
    )  # fmt: skip
    return Request("s3://bucket/inputs", "s3://bucket/some run", settings, device="cpu")


def test_a_job_on_a_bad_server(server: FaultyProxy, request_of: Request) -> None:
    requests, faults = count(), ("503", "reset", "lost", "500", "cut")

    def rule(method: str, path: str) -> str:
        number = next(requests)
        # Nothing is left of an answer that has no content when it is cut.
        fault = faults[number // 5 % len(faults)] if number % 5 == 4 else ""
        return "" if fault == "cut" and method != "GET" else fault

    server.rule = rule
    outcome = invert_images(request_of, engine=in_process)
    assert (outcome.images, outcome.summary.rejected) == (INPUTS, 0)
    assert compact(request_of.out).units == 3
    verification = verify(request_of.out)
    assert (verification.problems, verification.faces) == ([], INPUTS)
    assert invert_images(request_of, engine=in_process).images == 0
    assert all(server.met[fault] for fault in faults)
    assert server.met["conditional"] == 0


def test_access_that_is_withdrawn_and_given_back(server: FaultyProxy, request_of: Request) -> None:
    entries = 0

    def rule(method: str, path: str) -> str:
        nonlocal entries
        denied = "403" if entries else ""
        entries += method == "PUT" and "/_ledger/unit-" in path
        return denied

    server.rule = rule
    with pytest.raises(FatalError, match="access denied") as caught:
        invert_images(request_of, engine=in_process)
    assert "\n" not in str(caught.value)
    server.rule = lambda method, path: ""
    # One unit is done; the rest is run now, and no input was rejected for what the server did.
    outcome = invert_images(request_of, engine=in_process)
    assert (outcome.images, outcome.summary.rejected) == (INPUTS - 8, 0)
    assert verify(request_of.out).problems == []
