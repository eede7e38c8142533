"""An S3 server that is overloaded, hangs, drops connections, loses answers or refuses access."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from s3fs import S3FileSystem

from pipeline.lock import driver_lock
from pipeline.request import Listener
from pipeline.storage import Storage, open_storage
from restyle_core.errors import FatalError, TransientError
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
