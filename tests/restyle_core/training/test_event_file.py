"""Event files, read back by protobuf from a description of TensorFlow's messages."""

import struct
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from restyle.core.training.event_file import EventFile

# Field numbers of event.proto and summary.proto.
MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "Image": [
        *(("height", 1, "INT32"), ("width", 2, "INT32"), ("colorspace", 3, "INT32")),
        ("encoded_image_string", 4, "BYTES"),
    ],
    "Value": [("tag", 1, "STRING"), ("simple_value", 2, "FLOAT"), ("image", 4, "Image")],
    "Summary": [("value", 1, "Value*")],
    "SessionLog": [("status", 1, "INT32")],
    "Event": [
        *(("wall_time", 1, "DOUBLE"), ("step", 2, "INT64"), ("file_version", 3, "STRING")),
        *(("summary", 5, "Summary"), ("session_log", 7, "SessionLog")),
    ],
}


def event_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number)
            added.label = 3 if kind.endswith("*") else 1
            if kind.strip("*") in MESSAGES:
                added.type, added.type_name = added.TYPE_MESSAGE, f".t.{kind.strip('*')}"
            else:
                added.type = getattr(added, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum (RFC 3720, appendix B.4), bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def read(path: Path) -> list[Any]:
    kind, data, events = event_class(), path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, end in ((data[:8], 12), (data[12 : 12 + length], 16 + length)):
            crc = crc32c(part)
            masked = ((crc >> 15) + (crc << 17) + 0xA282EAD8) % 2**32
            assert data[end - 4 : end] == struct.pack("<I", masked)
        events.append(kind.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_the_checksum_has_the_value_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_numbers_and_pictures_are_read_back(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "tensorboard", 800)
    events.write_scalars({"losses/l2": 0.25, "images_per_second": 300.0}, 800)
    events.write_image("samples", b"\x89PNG" * 100, (640, 1024), 70_000)
    (path,) = (tmp_path / "tensorboard").iterdir()
    # Before the file is closed, as a kill leaves it.
    version, start, scalars, image = read(path)
    events.close()
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (1, 800)
    found = {value.tag: value.simple_value for value in scalars.summary.value}
    assert found == {"losses/l2": 0.25, "images_per_second": 300.0}
    assert (scalars.step, image.step) == (800, 70_000)
    (value,) = image.summary.value
    assert (value.tag, value.image.height, value.image.width) == ("samples", 640, 1024)
    assert value.image.encoded_image_string == b"\x89PNG" * 100
    assert version.wall_time > 1.7e9


def test_a_run_that_goes_on_takes_back_what_it_does_again(tmp_path: Path) -> None:
    for step in (0, 500, 1000):
        events = EventFile(tmp_path, step)
        events.write_scalars({"loss": 1.0}, step)
        events.close()
    files = sorted(tmp_path.iterdir())
    assert [read(path)[1].step for path in files] == [0, 500, 1000]
