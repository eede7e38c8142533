"""Images that crash, hang or exhaust whoever decodes them, and what makes some of them do so.

The one that hangs and the one that takes all memory are real files that any decoder of their
formats suffers from. No file is known that crashes the current Pillow or dlib, so a certain
beginning makes the child process that decodes end as native code does: by reading address 0.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

CRASHES = b"crash"
"""A file that begins like this is a segmentation fault to whoever decodes it."""

HANGS = b"hang"
"""A file that begins like this is never done."""

KILLS_ONCE = b"once"
"""Followed by the path of a file that is made; while there is none, the decoder is killed."""

# Only in the children that decode: their start is where this file is found, on PYTHONPATH.
_SITE = """
import sys

if "restyle.pipeline.decoding.child" in sys.orig_argv:
    import ctypes, os, resource, signal, time
    from restyle.core.imaging import decoding as images

    open_image, alarm, limit = images._open, signal.alarm, resource.setrlimit

    def opened(data):
        if data.startswith(b"crash"):
            ctypes.string_at(0)
        while data.startswith(b"hang"):
            time.sleep(1)
        if data.startswith(b"once") and not os.path.exists(data[4:]):
            open(data[4:], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return open_image(data)

    images._open = opened
    if {seconds}:
        signal.alarm = lambda seconds: alarm(min(seconds, {seconds}))
    if {memory}:
        lower = 4 * 2**30 - {memory}
        resource.setrlimit = lambda of, to: limit(
            of, (to[0] - lower, to[1]) if of == resource.RLIMIT_AS else to
        )
"""


def poison(folder: Path, *, seconds: int = 0, memory: int = 0) -> str:
    """A folder for PYTHONPATH with which certain files crash or hang the decoder.

    Args:
        folder: where to make it.
        seconds: a lower time limit for each image, since nobody waits two minutes for a test.
        memory: a lower limit of memory in bytes.
    """
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE.format(seconds=seconds, memory=memory))
    return str(site)


def endless_jpeg(scans: int = 16_000) -> bytes:
    """A progressive JPEG of 8000x8000 pixels whose every scan of 60 bytes refines all of them.

    A scan takes some hundredths of a second and a megabyte holds 16,000, so that decoding takes
    many minutes; the format allows any number of them.
    """
    side = 8000
    blocks = (side // 8) ** 2
    # The one Huffman code, "0", announces 2^14 blocks without coefficients, and 14 bits more.
    run = "0" + "1" * 14
    bits = run * -(-blocks // (2**15 - 1))
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    quantisation = segment(0xDB, bytes([0]) + bytes([1] * 64))
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    code = segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0]))
    scan = segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0x00])) + data
    return b"\xff\xd8" + quantisation + frame + code + scan * scans + b"\xff\xd9"


def swelling_png(side: int = 10_900) -> bytes:
    """A PNG of 20 kB that is just within the limit of pixels and takes 2 GB to decode.

    One bit for each pixel, two colours, one of them transparent: composing it over white needs
    four copies of four bytes for each pixel.
    """

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = zlib.compress(bytes((1 + -(-side // 8)) * side), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 3, 0, 0, 0))
        + chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
        + chunk(b"tRNS", bytes([128]))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
