"""TensorBoard's event files: numbers and pictures over the course of a run.

The format is small enough to write without TensorBoard, whose package would come with a web server:
records framed by lengths and checksums (TFRecord), each a protocol buffer message (``event.proto``
and ``summary.proto`` of TensorFlow).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_MASK = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78
_RGB = 3
_START = 1


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + _MASK) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


class EventFile:
    """One file of events; every process that continues a run writes a new one.

    Args:
        folder: where TensorBoard is to look; made when missing.
        step: the first that will be written. What earlier files of the folder hold from there on
            is taken back, since a run that was killed does it again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time_ns()
        # Viewers read files in the order of their names.
        self._path = folder / f"events.out.tfevents.{now // 10**9}.{now % 10**9:09d}.{os.getpid()}"
        self._write(0, _bytes(3, b"brain.Event:2"))
        self._write(step, _bytes(7, _number(1, _START)))

    def write_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add numbers by name; one with a slash in it goes into a group."""
        summary = b"".join(
            _bytes(1, _bytes(1, name.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", value))
            for name, value in values.items()
        )
        self._write(step, _bytes(5, summary))

    def write_image(self, name: str, png: bytes, size: tuple[int, int], step: int) -> None:
        """Add a picture.

        Args:
            name: of the series it belongs to.
            png: the encoded picture.
            size: its height and width.
            step: images seen so far.
        """
        image = _number(1, size[0]) + _number(2, size[1]) + _number(3, _RGB) + _bytes(4, png)
        self._write(step, _bytes(5, _bytes(1, _bytes(1, name.encode()) + _bytes(4, image))))

    def _write(self, step: int, content: bytes) -> None:
        event = _varint(1 << 3 | 1) + struct.pack("<d", time.time()) + _number(2, step) + content
        length = struct.pack("<Q", len(event))
        with self._path.open("ab") as file:
            file.write(length + _masked(length) + event + _masked(event))
