"""Recognise files that are not torch checkpoints by their first bytes, and suggest a remedy.

Downloads may be truncated or contain an error page, archives may still be packed, and other
programs also use the extension ``.pt``. Nothing in such a file is executed, and only a small part
is read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from restyle.core.errors import CheckpointError, reason_of
from restyle.core.files import open_file
from restyle.core.imaging.formats import begins_like_an_image
from restyle.core.stand_ins import HEAD, stand_in

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
)

_OTHERS = (
    (b"\x93NUMPY", "an array of numpy"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it"),
    (b"GGUF", "a GGUF file of a language model"),
    (b"%PDF-", "a PDF document"),
)

_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# Protocols 0 and 1 have no mark of their own.
_ANY_PICKLE = re.compile(rb"\x80[\x02-\x05]|[(c}]")
_TAR = slice(257, 262)

# Magic number of torch files from before the zip format.
_TORCH = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")

# Modules of NVIDIA's programs that their pickles import.
_NVIDIA = re.compile(rb"torch_utils\.persistence|dnnlib\b|training\.networks")
_PICKLE_HEAD = 1 << 16

_SHOWN_NAMES = 3
_SHOWN_TEXT = 60
_SHOWN_BYTES = 8

NVIDIA = (
    "a network pickle of NVIDIA's StyleGAN programs: a generator without an encoder. `restyle "
    "convert` takes it, and with --encoder ENCODER attaches an encoder's checkpoint to it"
)
"""Description of NVIDIA's file format where an encoder is needed, and what to do."""


def is_network_pickle(path: Path) -> bool:
    """Whether a file is a network pickle of NVIDIA's programs, from its beginning.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with open_file(path) as file:
            head = file.read(_PICKLE_HEAD)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error
    return _is_nvidias(head)


def _is_nvidias(head: bytes) -> bool:
    return _ANY_PICKLE.match(head) is not None and _NVIDIA.search(head) is not None


def foreign_kind(path: Path) -> str:
    """Describe a file that contains no torch weights, and suggest a remedy.

    Args:
        path: path of the file.

    Returns:
        A phrase that continues "<path> is"; empty if the file may be a checkpoint.

    Raises:
        OSError: the file cannot be read, or is a folder, a device or a pipe.
    """
    with open_file(path) as file:
        head = file.read(_PICKLE_HEAD)
    size = path.stat().st_size
    return next(_kinds(path, head, size), "")


def _kinds(path: Path, head: bytes, size: int) -> Iterator[str]:
    """Yield the descriptions that match a file, the most specific first."""
    if not size:
        yield "empty; download or copy it again"
    if left := stand_in(head[:HEAD]):
        yield left
    for begin, name in _PACKED:
        if head.startswith(begin):
            yield f"packed with {name}; unpack it and give the file inside"
    if head[_TAR] == b"ustar":
        yield "a tar archive; unpack it and give the file inside"
    if head.startswith(_ZIP):
        yield from _zip_kinds(path, size)
    elif _is_nvidias(head):
        yield NVIDIA
    elif _PICKLE.match(head):
        # For pickles that torch wrote, its restricted reader reports which globals they import.
        if _TORCH not in head[:HEAD]:
            yield (
                "a pickle that torch did not write, which could run code when opened; where you "
                "trust it, open it and save its state_dict with torch.save"
            )
    elif _is_safetensors(head, size):
        yield (
            "a safetensors file; weights in that format are used as part of a model directory: "
            "give the folder that has a model.json"
        )
    else:
        yield from _odd_kinds(head)


def _zip_kinds(path: Path, size: int) -> Iterator[str]:
    """Yield the description of a zip archive that torch did not write."""
    if not zipfile.is_zipfile(path):
        yield f"cut short: it ends after {size:,} bytes, in the middle; download or copy it again"
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        yield f"a damaged zip archive ({error}); download or copy it again"
        return
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        yield "a TorchScript program; give the checkpoint that it was made of"
    if not any(name.endswith("data.pkl") for name in names):
        shown = ", ".join(names[:_SHOWN_NAMES]) + ", ..." * (len(names) > _SHOWN_NAMES)
        yield (
            f"a zip archive that torch did not write ({shown or 'of nothing'}); unpack it and give "
            "the checkpoint inside"
        )
    # A small file could unpack to any size; torch itself never compresses.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        yield (
            "a compressed archive, which torch does not write; open it where you trust it, and "
            "save it with torch.save"
        )


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= size - 8


def _odd_kinds(head: bytes) -> Iterator[str]:
    """Yield the description of a file that starts unlike any torch file."""
    advice = "give a checkpoint as torch.save writes it"
    for begin, name in _OTHERS:
        if head.startswith(begin):
            yield f"{name}; {advice}"
    if begins_like_an_image(head):
        yield f"an image; {advice}"
    line = head[:HEAD].split(b"\n")[0].strip()
    if line and all(0x20 <= byte < 0x7F or byte in b"\t\r" for byte in line):
        yield f"text ({line[:_SHOWN_TEXT].decode()!r}); {advice}"
    shown = head[:_SHOWN_BYTES].hex(" ")
    yield f"no checkpoint: it begins with the bytes {shown}, as no file of torch does; {advice}"
