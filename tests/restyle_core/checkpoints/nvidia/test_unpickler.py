"""Hostile pickles are refused in one line, and nothing in them runs or takes memory."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from restyle.core.checkpoints.conversion import convert
from restyle.core.checkpoints.nvidia import unpickler
from restyle.core.checkpoints.nvidia.pickles import read_network_pickle
from restyle.core.errors import CheckpointError
from restyle.core.inference.model import load_model
from tests.restyle_core.checkpoints.nvidia import programs

# Bytes by which a file is taken for NVIDIA's; they are popped again.
SIGN = b"\x8c\x17torch_utils.persistence0"
PROTO = b"\x80\x04" + SIGN
COMMAND = "touch {marker}"

_events: list[str] = []
_watching = False


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event.startswith(("os.", "subprocess.", "pickle.", "socket.", "ctypes.", "exec")):
        _events.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_note)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """No global is looked up by pickle, no code runs, and no file is written."""
    global _watching
    _events.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert _events == []


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def stack_global(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return PROTO + stack_global(module, name) + b"(" + b"".join(arguments) + b"tR."


def raw(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


class Calls:
    """Is pickled as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def storage(change: Callable[[bytes], bytes] = bytes) -> bytes:
    """A pickled tensor of 12 numbers whose storage's bytes are changed."""
    target = io.BytesIO()
    torch.save(
        torch.storage.TypedStorage(
            wrap_storage=torch.arange(12.0).untyped_storage(), dtype=torch.float32, _internal=True
        ),
        target,
        _use_new_zipfile_serialization=False,
    )
    data = change(target.getvalue())
    return stack_global("torch.storage", "_load_from_bytes") + raw(data) + b"\x85R"


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    parts = [pickle.dumps(each, 2)[2:-1] for each in (offset, size, stride)]
    return (
        PROTO
        + stack_global("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage()
        + b"".join(parts)
        + b"tR."
    )


def array(kind: bytes, shape: bytes, content: bytes) -> bytes:
    return (
        PROTO
        + stack_global("numpy.core.multiarray", "_reconstruct")
        + stack_global("numpy", "ndarray")
        + b"K\x00\x85"
        + raw(b"b")
        + b"\x87R(K\x01"
        + shape
        + kind
        + b"\x89"
        + content
        + b"tb."
    )


FLOATS = stack_global("numpy", "dtype") + b"(" + text("f4") + b"\x89\x88tR"
OBJECTS = stack_global("numpy", "dtype") + b"(" + text("O8") + b"\x89\x88tR"
NETWORK = stack_global("dnnlib.tflib.network", "Network")
PERSISTENT = stack_global("torch_utils.persistence", "_reconstruct_persistent_obj")


def meta(**entries: object) -> bytes:
    inner = {"type": "class", "version": 6, "module_src": "", "class_name": "A", "state": {}}
    return pickle.dumps({**inner, **entries}, 2)[2:-1]


def exploding_key() -> bytes:
    # Each tuple holds the one before twice, so that hashing takes 2^60 steps.
    nested = b")" + b"".join(b"2\x86" for _ in range(60))
    return PROTO + b"}" + nested + b"Ns."


CASES: dict[str, Callable[[str], bytes]] = {
    "os.system, protocol 0": lambda c: b"cposix\nsystem\n(S'%s'\ntR." % c.encode(),
    "os.system, by memo": lambda c: PROTO + text("os") + b"\x940h\x00" + text("system") + b"\x93.",
    "os.system, stack global": lambda c: call("os", "system", text(c)),
    "os.system, inst": lambda c: PROTO + b"(" + text(c) + b"ios\nsystem\n.",
    "os.system, obj": lambda c: PROTO + b"(cos\nsystem\n" + text(c) + b"o.",
    "os.system, newobj": lambda c: PROTO + b"cos\nsystem\n" + text(c) + b"\x85\x81.",
    "popen, newobj_ex": lambda c: (
        PROTO + stack_global("subprocess", "Popen") + text(c) + b"\x85}" + b"\x92."
    ),
    "eval": lambda c: call("builtins", "eval", text(f"__import__('os').system('{c}')")),
    "exec": lambda c: call("builtins", "exec", text(f"import os; os.system('{c}')")),
    "eval of Python 2": lambda c: call("__builtin__", "eval", text("1")),
    "compile": lambda c: call("builtins", "compile", text("1"), text(""), text("eval")),
    "__import__": lambda c: call("builtins", "__import__", text("antigravity")),
    "getattr": lambda c: call("builtins", "getattr", stack_global("builtins", "set"), text("x")),
    "a chain of getattr": lambda c: call(
        "builtins", "getattr", call("builtins", "getattr")[len(PROTO) : -1], text("__globals__")
    ),
    "attributes of an allowed name": lambda c: call(
        "torch_utils.persistence", "_reconstruct_persistent_obj.__globals__"
    ),
    "attributes of an allowed class": lambda c: call(
        "dnnlib.tflib.network", "Network.__init__.__globals__.get", text("x")
    ),
    "a class of an allowed module": lambda c: call("collections", "Counter"),
    "attrgetter": lambda c: call("operator", "attrgetter", text("system")),
    "partial": lambda c: call("functools", "partial"),
    "marshal": lambda c: call("marshal", "loads", raw(b"x")),
    "a function's type": lambda c: call("types", "FunctionType"),
    "pickle in pickle": lambda c: call("pickle", "loads", raw(pickle.dumps(Calls(eval, "1")))),
    "torch.load": lambda c: call("torch", "load", text("/dev/zero")),
    "torch.hub": lambda c: call("torch.hub", "load", text("a/b"), text("c")),
    "numpy.load": lambda c: call("numpy", "load", text("/dev/zero")),
    "a module's path": lambda c: call("runpy", "run_path", text("/tmp/x.py")),
    "zlib": lambda c: call("zlib", "decompress", raw(b"x")),
    "decode": lambda c: call("_codecs", "decode", raw(b"x"), text("zlib")),
    "encode by another codec": lambda c: call("_codecs", "encode", text("x"), text("rot13")),
    "a storage that is a pickle of code": lambda c: call(
        "torch.storage",
        "_load_from_bytes",
        raw(pickle.dumps(Calls(__import__("os").system, c))),
    ),
    "a storage whose keys are code": lambda c: (
        PROTO + storage(lambda d: d[: d.index(b"]q\x00X")] + pickle.dumps(Calls(eval, "1"))) + b"."
    ),
    "a storage in a zip": lambda c: call("torch.storage", "_load_from_bytes", raw(zipped())),
    "a storage of nothing": lambda c: call("torch.storage", "_load_from_bytes", raw(b"")),
    "a storage that is cut": lambda c: PROTO + storage(lambda d: d[:-4]) + b".",
    "a storage that is too long": lambda c: PROTO + storage(lambda d: d + b"abcd") + b".",
    "a storage of a trillion": lambda c: (
        PROTO
        + storage(lambda d: d[: -12 * 4 - 8] + struct.pack("<q", 10**12) + d[-12 * 4 :])
        + b"."
    ),
    "a tensor beyond its storage": lambda c: tensor(4, (3, 3), (3, 1)),
    "a tensor before its storage": lambda c: tensor(-1, (3,), (1,)),
    "a tensor of one number repeated": lambda c: tensor(0, (10**6, 10**6), (0, 0)),
    "a tensor with negative strides": lambda c: tensor(3, (2, 2), (-1, 1)),
    "a tensor of a negative size": lambda c: tensor(0, (-3, -4), (1, 1)),
    "a tensor without storage": lambda c: call(
        "torch._utils", "_rebuild_tensor_v2", b"K\x01K\x00", b"))"
    ),
    "an array of objects": lambda c: array(OBJECTS, b"K\x01\x85", b"](cos\nsystem\ne"),
    "an array of objects in a list": lambda c: array(FLOATS, b"K\x01\x85", b"]K\x01a"),
    "an array that lies": lambda c: array(
        FLOATS, b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", raw(b"abcd")
    ),
    "an array of a negative shape": lambda c: array(FLOATS, b"J\xff\xff\xff\xff\x85", raw(b"")),
    "an array of records": lambda c: call("numpy", "dtype", text("i4,(9999999,)f8")),
    "a persistent id": lambda c: b"P" + b"torch_utils.persistence\n.",
    "a binary persistent id": lambda c: PROTO + text("x") + b"Q.",
    "an extension": lambda c: PROTO + b"\x82\x01.",
    "an extension of four bytes": lambda c: PROTO + b"\x84\x01\x00\x00\x00.",
    "a buffer outside": lambda c: PROTO + b"\x97.",
    "a buffer made read-only": lambda c: PROTO + raw(b"x") + b"\x98.",
    "a state for a name": lambda c: PROTO + PERSISTENT + b"}b.",
    "a state for a list": lambda c: PROTO + b"]}" + text("__class__") + b"Nsb.",
    "a network's state that is no dictionary": lambda c: PROTO + NETWORK + b")\x81](b.",
    "a network made with arguments": lambda c: PROTO + NETWORK + b"}\x85\x81.",
    "another class by copyreg": lambda c: call(
        "copyreg",
        "_reconstructor",
        stack_global("builtins", "set"),
        stack_global("builtins", "object"),
        b"N",
    ),
    "an object of another kind": lambda c: PROTO + PERSISTENT + meta(type="module") + b"\x85R.",
    "an object of another version": lambda c: PROTO + PERSISTENT + meta(version=7) + b"\x85R.",
    "an object without a state": lambda c: PROTO + PERSISTENT + meta(state=None) + b"\x85R.",
    "bytes of a number": lambda c: call("builtins", "bytes", b"\x8a\x06\x00\x00\x00\x00\x00\x01"),
    "a bytearray of a number": lambda c: call("builtins", "bytearray", b"J\xff\xff\xff\x7f"),
    "a value that is called": lambda c: PROTO + text("x") + b")R.",
    "a dictionary that is called": lambda c: PROTO + b"})R.",
    "a key that takes forever": lambda c: exploding_key(),
    "an item that takes forever": lambda c: PROTO + b"\x8f(" + b")" + b"2\x86" * 60 + b"\x90.",
    "a key nested very deeply": lambda c: PROTO + b"})" + b"\x85" * 10**5 + b"Ns.",
    "lists nested very deeply": lambda c: PROTO + b"]" * 30_000 + b"a" * 29_999 + b".",
    "bytes of an exabyte": lambda c: PROTO + b"\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "text of an exabyte": lambda c: PROTO + b"\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "a number of two gigabytes": lambda c: PROTO + b"\x8b\xff\xff\xff\x7f\x01.",
    "a number of many digits": lambda c: PROTO + b"L" + b"9" * 10**6 + b"L\n.",
    "a frame of an exabyte": lambda c: PROTO + b"\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "the last memo index": lambda c: PROTO + b"Nr\xff\xff\xff\xff.",
    "a missing memo": lambda c: PROTO + b"h\x07.",
    "a protocol of the future": lambda c: b"\x80\x04" + SIGN + b"\x80\xff" + b"N.",
    "a mark that is missing": lambda c: PROTO + b"t.",
    "a mark as the result": lambda c: PROTO + b"(.",
    "a mark that is kept": lambda c: PROTO + b"(q\x00.",
    "an empty stack": lambda c: PROTO + b"0000.",
    "no stop": lambda c: PROTO + b"N",
    "an unknown instruction": lambda c: PROTO + b"\xff.",
    "more values than one": lambda c: PROTO + b"NN.",
    "no value": lambda c: PROTO + b".",
    "a name as the result": lambda c: PROTO + PERSISTENT + b".",
    "a list that is no list": lambda c: PROTO + b"}Na.",
    "an odd number of items": lambda c: PROTO + b"}(Nu.",
    "a network that holds itself": lambda c: (
        PROTO
        + b"}q\x00"
        + text("G_ema")
        + PERSISTENT
        + b"}("
        + b"".join(
            text(k) + v
            for k, v in (
                ("type", text("class")),
                ("version", b"K\x06"),
                ("class_name", text("Generator")),
                (
                    "state",
                    b"}q\x01"
                    + text("_modules")
                    + b"}("
                    + text("synthesis")
                    + b"h\x01"
                    + text("mapping")
                    + b"h\x01us",
                ),
            )
        )
        + b"u\x85Rs."
    ),
}


def zipped() -> bytes:
    target = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, target)
    return target.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what reading imports, so that a hostile pickle's reading imports nothing."""
    path = tmp_path_factory.mktemp("warm") / "a.pkl"
    # Text of protocol 0 is decoded by a module of its own.
    assert "x".encode("raw-unicode-escape")
    programs.write(programs.ada_content(programs.Generator((8, 4))), path)
    read_network_pickle(path)
    path.write_bytes(PROTO + b"N.")
    with pytest.raises(CheckpointError):
        convert(path, path.parent / "out")
    with pytest.raises(CheckpointError):
        load_model(path)


@pytest.mark.parametrize("name", CASES)
def test_hostile_pickles_are_refused_without_running_anything(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "network.pkl"
    path.write_bytes(CASES[name](COMMAND.format(marker=marker)))
    tracemalloc.start()
    try:
        with nothing_runs(), pytest.raises(CheckpointError) as error:
            read_network_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6 + 200 * path.stat().st_size
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 400
    for read in (load_model, lambda path: convert(path, tmp_path / "out")):
        with pytest.raises(CheckpointError):
            read(path)
    assert sorted(tmp_path.iterdir()) == [path]


def test_python_itself_would_have_run_them(tmp_path: Path) -> None:
    """The cases are real: what is refused above runs where pickle opens it."""
    for name in ("os.system, protocol 0", "os.system, stack global", "os.system, inst"):
        marker = tmp_path / "ran"
        pickle.loads(CASES[name](COMMAND.format(marker=marker)))  # noqa: S301
        marker.unlink()


def test_the_name_that_a_file_asks_for_is_said(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(call("builtins", "eval", text("1")))
    with pytest.raises(CheckpointError, match=r"asks for builtins\.eval, which could run code"):
        read_network_pickle(path)
    path.write_bytes(call("a\x1b[2J\nb", "c" * 1000))
    with pytest.raises(CheckpointError, match=r"asks for a\\x1b\[2J\\nb\.ccc") as error:
        read_network_pickle(path)
    assert len(str(error.value)) < 300


def test_instructions_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(PROTO + b"N0" * 1000 + b"N.")
    monkeypatch.setattr(unpickler, "MOST_OPCODES", 1000)
    with pytest.raises(CheckpointError, match="has more than 1,000 instructions"):
        read_network_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
def test_source_in_a_pickle_is_not_run(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    programs.Persistent.trap = str(marker)
    try:
        generator = programs.ada_content(programs.Generator((8, 4)))
        network = programs.tf_generator((8, 4))
    finally:
        for content in (generator, (network, network, network)):
            path = programs.write(content, tmp_path / "network.pkl", protocol)
            assert str(marker).encode() in path.read_bytes()
            with nothing_runs():
                assert read_network_pickle(path).state
        programs.Persistent.trap = ""
    assert not marker.exists()


def test_packed_pickles_are_named(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(gzip.compress(programs.dumped(programs.tf_generator((8, 4)))))
    with pytest.raises(CheckpointError, match="is packed with gzip"):
        convert(path, tmp_path / "out")


def test_a_torch_file_that_is_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"0" * 10**8)
        archive.writestr("archive/version", b"3\n")
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="is a compressed archive") as error:
        load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e7
    assert "\n" not in str(error.value)


# Where a case is refused, so that none is refused only for being no network.
REASONS = {
    "os.system, protocol 0": r"asks for posix\.system, which could run code",
    "os.system, stack global": r"asks for os\.system,",
    "os.system, inst": r"asks for os\.system,",
    "os.system, obj": r"asks for os\.system,",
    "a class of an allowed module": r"asks for collections\.Counter,",
    "attributes of an allowed name": r"asks for torch_utils\.persistence\._reconstruct.*globals",
    "a storage that is a pickle of code": r"asks for posix\.system,",
    "a storage in a zip": "is damaged",
    "a storage that is cut": "has a tensor of 12 numbers in 44 bytes",
    "a storage that is too long": "has a tensor of 12 numbers in 52 bytes",
    "a storage of a trillion": "has a tensor of 1,000,000,000,000 numbers in 48 bytes",
    "a tensor beyond its storage": r"has a tensor of \[3, 3\] over 12 numbers from 4",
    "a tensor before its storage": "has an array of an invalid shape",
    "a tensor of one number repeated": r"has a tensor of \[1000000, 1000000\] over 12 numbers",
    "a tensor with negative strides": "has an array of an invalid shape",
    "a tensor of a negative size": "has an array of an invalid shape",
    "an array of objects": "has an array of 'O8', which are no plain numbers",
    "an array of objects in a list": "has an array of objects",
    "an array that lies": r"has an array of \[1099511627776\] f4 in 4 bytes",
    "an array of records": r"has an array of 'i4,\(9999999,\)f8', which are no plain",
    "a persistent id": "refers to objects outside of itself",
    "a binary persistent id": "refers to objects outside of itself",
    "an extension": "has the instruction EXT1",
    "a state for a name": "gives a Name attributes",
    "a state for a list": "gives a list attributes",
    "another class by copyreg": "creates an object of a class that is not known",
    "an object of another version": "has an object of an unknown version",
    "bytes of a number": "makes bytes of something else",
    "a value that is called": "calls a str, which could run code",
    "a key that takes forever": "has a tuple as the key of a dictionary",
    "an item that takes forever": "has a tuple as the key of a dictionary",
    "a key nested very deeply": "has a tuple as the key of a dictionary",
    "encode by another codec": "encodes text as 'rot13'",
    "a protocol of the future": "has protocol 255",
    "the last memo index": "holds no generator",
    "bytes of an exabyte": "is damaged",
    "a network that holds itself": "has no network|holds another network",
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_the_fault(name: str, tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(CASES[name](COMMAND.format(marker=tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=REASONS[name]):
        read_network_pickle(path)
