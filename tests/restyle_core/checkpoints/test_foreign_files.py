"""What is no checkpoint is named, with what to do, and nothing is printed besides."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from restyle.core.checkpoints.published import open_pickle
from restyle.core.errors import CheckpointError
from restyle.core.inference.model import load_model


def _torch(**options: object) -> bytes:
    target = io.BytesIO()
    torch.save({"state_dict": {"a": torch.arange(1000.0)}}, target, **options)
    return target.getvalue()


def _nvidia() -> bytes:
    # As stylegan2-ada-pytorch writes it: a dictionary of objects of its own classes.
    return (
        b"\x80\x04}\x94\x8c\x05G_ema\x94\x8c\x17torch_utils.persistence\x94"
        b"\x8c\x1b_reconstruct_persistent_obj\x94\x93\x94}\x94\x85\x94R\x94s."
    )


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo("model.pt")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"text"))
    return target.getvalue()


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("weights/model.pt", b"text")
    return target.getvalue()


def _script() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("model/data.pkl", "model/constants.pkl", "model/code/__torch__.py"):
            archive.writestr(name, b"")
    return target.getvalue()


def _png() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "PNG")
    return target.getvalue()


def _npy() -> bytes:
    target = io.BytesIO()
    np.save(target, np.zeros(3))
    return target.getvalue()


class Owned:
    """Of a class that only this program has."""


def _torch_of(content: object) -> bytes:
    target = io.BytesIO()
    torch.save(content, target)
    return target.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", r"is empty; download or copy it again"),
    "an LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
        r"is a Git LFS pointer in place of the file; run `git lfs pull`",
    ),
    "an error page": (
        lambda: b"\n <!doctype HTML><html><title>Quota exceeded</title></html>",
        r"is an HTML page, .*; download it again",
    ),
    "an error page with a mark": (lambda: b"\xef\xbb\xbf<html>", r"is an HTML page"),
    "a store's error": (
        lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        r"is an XML document, perhaps a store's error",
    ),
    "a server's error": (lambda: b'{"message": "Not Found"}', r"is JSON text"),
    "text": (lambda: b"Too many requests\n", r"is text \('Too many requests'\)"),
    "random bytes": (
        lambda: bytes(range(0x90, 0x100)) * 40,
        r"is no checkpoint: it begins with the bytes 90 91 92 93 94 95 96 97, .*; give a",
    ),
    "zeros": (lambda: bytes(5000), r"is no checkpoint: it begins with the bytes 00 00 "),
    "a closing bracket": (
        lambda: b"].\x00\xff",
        r"is no checkpoint: it begins with the bytes 5d 2e",
    ),
    "a damaged file of torch": (
        lambda: _torch(_use_new_zipfile_serialization=False)[:40] + b"\xff" * 40,
        r"is damaged or no PyTorch checkpoint; download or copy it again",
    ),
    "gzip": (lambda: gzip.compress(_torch()), r"is packed with gzip; unpack it"),
    "bzip2": (lambda: bz2.compress(_torch()), r"is packed with bzip2; unpack it"),
    "xz": (lambda: lzma.compress(_torch()), r"is packed with xz; unpack it"),
    "a tar": (_tar, r"is a tar archive; unpack it"),
    "a zip": (_zip, r"is a zip archive that torch did not write \(weights/model\.pt\); unpack it"),
    "a cut download": (lambda: _torch()[:3000], r"is cut short: it ends after 3,000 bytes"),
    "a TorchScript": (_script, r"is a TorchScript program"),
    "safetensors": (
        lambda: save({"a": torch.zeros(3)}),
        r"is a safetensors file; .*give the folder that has a model\.json",
    ),
    "NVIDIA's": (
        _nvidia,
        r"is a network pickle of NVIDIA's .*: a generator without an encoder.*--encoder ENCODER",
    ),
    "NVIDIA's older": (
        lambda: b"\x80\x02cdnnlib.tflib.network\nNetwork\nq\x00.",
        r"is a network pickle of NVIDIA's",
    ),
    "an array": (_npy, r"is an array of numpy"),
    "an image": (_png, r"is an image"),
    "a pickle of objects": (
        lambda: pickle.dumps(Owned()),
        r"is a pickle that torch did not write, which could run code when opened; where you trust",
    ),
    "objects that torch wrote": (
        lambda: _torch_of(Owned()),
        r"asks for .*Owned when opened, which could run code.*save the state_dict alone",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_named_with_what_to_do(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = FILES[name]
    path = tmp_path / "restyle_ffhq.pt"
    path.write_bytes(make())
    with warnings.catch_warnings():
        # A library's own warning would stand on the screen beside the one line.
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=said) as error:
            load_model(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_is_read(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(_torch(_use_new_zipfile_serialization=zipped))
    found = open_pickle(path)
    assert torch.equal(found["state_dict"]["a"], torch.arange(1000.0))
