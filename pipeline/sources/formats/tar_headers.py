"""Locate the members of a tar archive from its headers, without extracting anything.

Supported formats are POSIX ustar and pax, GNU long names, and the old V7 format. A damaged archive
is read up to the damage and then reported; other readers stop there silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.sources.ranged_file import RangedFile, ReadAhead

BLOCK = 512
"""Size of a header in bytes; member data is padded to a multiple of it."""

MAX_EXTENSION = 1 << 20
"""Maximum size in bytes of an extended header or a long name; no real name needs more."""

MAX_PADDING = 1 << 26
"""Maximum number of bytes after the end marker that are examined."""

_ZEROS = bytes(BLOCK)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


class MemberKind(Enum):
    """Type of a member."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    DEVICE = "device"
    SPARSE = "sparse"
    OTHER = "other"


_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7"), MemberKind.FILE),
    **dict.fromkeys((b"1", b"2"), MemberKind.LINK),
    **dict.fromkeys((b"3", b"4", b"6"), MemberKind.DEVICE),
    b"5": MemberKind.FOLDER,
    b"S": MemberKind.SPARSE,
}
_WITHOUT_DATA = frozenset({MemberKind.LINK, MemberKind.DEVICE, MemberKind.FOLDER})
_FOR_THE_NEXT = (b"x", b"X", b"L", b"K", b"g")


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member of an archive.

    Attributes:
        name: name as stored, with lone surrogates for bytes that are not UTF-8.
        kind: type of the member.
        offset: offset of its data in bytes from the start of the archive.
        size: size of its data in bytes.
    """

    name: str
    kind: MemberKind
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    type: bytes
    size: int
    more_sparse: bool


def read_members(file: RangedFile) -> Iterator[TarMember]:
    """Yield the complete members of an archive, in order.

    Raises:
        RejectError: the archive is damaged (``damaged_archive``) or of a format that is not
            supported (``unsupported_archive``); raised after the last complete member.
        OSError: the archive cannot be read.
        TransientError: the store still fails after all retries.
    """
    ahead = ReadAhead(file)
    position = 0
    pending: dict[bytes, bytes] = {}
    while True:
        block = ahead.read_at(position, BLOCK)
        if block == _ZEROS:
            _check_end(ahead, position + BLOCK, bool(pending), file.size)
            return
        header = _header(block, position)
        data = position + BLOCK
        if header.type in _FOR_THE_NEXT:
            found = _extension(ahead, header, data)
            if header.type != b"g":
                pending |= found
            position = data + _filled(header.size)
            continue
        while header.type == b"S" and header.more_sparse:
            # Skip the continuation blocks of a sparse map that exceeds the header.
            more = ahead.read_at(data, BLOCK)
            header = _Header(header.name, header.type, header.size, more[504:505] == b"\x01")
            data += BLOCK
        member = _member(header, pending, data)
        if member.offset + member.size > file.size:
            raise _damaged(
                f"it is cut off at byte {file.size:,}, within the member "
                f"{member.name!a} of {member.size:,} bytes"
            )
        yield member
        position = member.offset + _filled(member.size)
        pending = {}


def _member(header: _Header, pending: dict[bytes, bytes], data: int) -> TarMember:
    name = pending.get(b"GNU.sparse.name", pending.get(b"path", header.name))
    kind = _KINDS.get(header.type, MemberKind.OTHER)
    # V7 has no type for folders and marks them by a trailing slash.
    if header.type == b"\0" and name.endswith(b"/"):
        kind = MemberKind.FOLDER
    if any(key.startswith(b"GNU.sparse.") for key in pending):
        kind = MemberKind.SPARSE
    size = header.size
    if b"size" in pending:
        if not pending[b"size"].isdigit() or len(pending[b"size"]) > 20:
            raise _damaged(f"the size of the member before byte {data:,} is no number")
        size = int(pending[b"size"])
    size = 0 if kind in _WITHOUT_DATA else size
    return TarMember(name.decode("utf-8", "surrogateescape"), kind, data, size)


def _header(block: bytes, position: int) -> _Header:
    """Parse a header block.

    Raises:
        RejectError: the block is not a valid header.
    """
    if not block:
        if not position:
            raise _damaged("it is empty")
        raise _damaged(
            f"it stops at byte {position:,} without the mark of an end; what may have followed is "
            "lost"
        )
    if not position and block.startswith(_COMPRESSED):
        raise unsupported("it is compressed, so that no member can be read by itself; unpack it")
    if len(block) < BLOCK:
        raise _damaged(f"it is cut off within the header at byte {position:,}")
    stated = _number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if stated != unsigned:
        # Some old programs computed the checksum with signed bytes.
        high = sum(byte > 127 for byte in block[:148] + block[156:])
        if stated != unsigned - 256 * high:
            raise _damaged(f"what stands at byte {position:,} is not the header of a member")
    size = _number(block[124:136])
    if size is None or size < 0:
        raise _damaged(f"the header at byte {position:,} states an impossible size")
    name = block[:100].partition(b"\0")[0]
    kind = block[156:157]
    prefix = block[345:500].partition(b"\0")[0]
    # GNU formats store other fields in place of the prefix.
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return _Header(name, kind, size, block[482:483] == b"\x01")


def _number(field: bytes) -> int | None:
    """Parse a numeric header field, octal or base-256; None if it is neither."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big", signed=field[0] == 0xFF)
    digits = field.partition(b"\0")[0].strip(b" ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _extension(ahead: ReadAhead, header: _Header, data: int) -> dict[bytes, bytes]:
    """Return the fields that an extended header sets for the next member."""
    if header.size > MAX_EXTENSION:
        raise _damaged(f"the extended header at byte {data - BLOCK:,} states {header.size:,} bytes")
    content = ahead.read_at(data, header.size)
    if len(content) < header.size:
        raise _damaged(f"it is cut off within the header at byte {data - BLOCK:,}")
    if header.type == b"K":
        return {}
    if header.type == b"L":
        return {b"path": content.partition(b"\0")[0]}
    found: dict[bytes, bytes] = {}
    position, last = 0, len(content.rstrip(b"\0"))
    while position < last:
        # A record is "LENGTH KEY=VALUE\n"; the length includes itself and the newline.
        length, _, _ = content[position : position + 20].partition(b" ")
        end = position + int(length) if length.isdigit() else 0
        key, equals, value = content[position + len(length) + 1 : max(end - 1, 0)].partition(b"=")
        if not equals or not position < end <= len(content) or content[end - 1] != ord("\n"):
            raise _damaged(f"the extended header at byte {data - BLOCK:,} makes no sense")
        if value:
            found[key] = value
        position = end
    return found


def _check_end(ahead: ReadAhead, position: int, is_pending: bool, size: int) -> None:
    """Check that only zeros, or nothing, follow the first block of zeros."""
    if is_pending:
        raise _damaged(f"a member is announced before byte {position - BLOCK:,}, but there is none")
    last = min(size, position + MAX_PADDING)
    while position < last:
        block = ahead.read_at(position, min(1 << 14, last - position))
        if not block or block.count(0) != len(block):
            raise _damaged(
                f"there is more after its end, past byte {position:,}; archives joined to one are "
                "not read, extract and pack them anew"
            )
        position += len(block)
    if last < size:
        raise _damaged(f"there are {size - last:,} bytes more, far after its end")


def unsupported(what: str) -> RejectError:
    """Return the error for a valid archive of an unsupported format."""
    return RejectError(RejectReason.UNSUPPORTED_ARCHIVE, what)


def _damaged(what: str) -> RejectError:
    return RejectError(RejectReason.DAMAGED_ARCHIVE, f"the archive is damaged: {what}")


def _filled(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
