"""List the members of a tar archive as inputs; unusable members become rejects with a reason."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator

from restyle.core.errors import RejectError, RejectReason
from restyle.core.shown_text import recorded
from restyle.pipeline.sources.formats.file_names import image_extensions
from restyle.pipeline.sources.formats.tar_headers import MemberKind, TarMember, read_members
from restyle.pipeline.sources.ranged_file import RangedFile
from restyle.pipeline.sources.source_image import SourceImage, image_id

_DRIVE = re.compile(r"[A-Za-z]:")
_MAX_SHOWN = 300
_NO_EXTENSION = "(none)"
# A longer suffix is part of the name, not an extension.
_LONGEST = 16

_FAULTS = {
    MemberKind.LINK: (RejectReason.UNSAFE_NAME, "it is a link; links are not followed"),
    MemberKind.DEVICE: (RejectReason.UNSAFE_NAME, "it is a device or a pipe, not a file"),
    MemberKind.SPARSE: (
        RejectReason.UNSUPPORTED_ARCHIVE,
        "it is stored with holes (a sparse file); pack it without",
    ),
}


def tar_images(
    archive: SourceImage, file: RangedFile, skipped: Counter[str]
) -> Iterator[SourceImage]:
    """Yield the images in an archive, and a reject for each unusable or duplicate member.

    Folders are skipped. Hidden members and members without an image extension, such as the texts
    and labels of WebDataset, are skipped and counted.

    Args:
        archive: the archive as an input.
        file: the same archive, open.
        skipped: counter of skipped members by extension; updated here.

    Raises:
        OSError: the archive cannot be read.
        TransientError: the store still fails after all retries.
    """
    seen: Counter[str] = Counter()
    try:
        for member in read_members(file):
            if (image := _image(archive, file, member, seen, skipped)) is not None:
                yield image
    except RejectError as error:
        yield damaged_container(archive, file, error)


def damaged_container(
    file: SourceImage, opened: RangedFile, error: RejectError, prefix: str = "tar"
) -> SourceImage:
    """Return a rejected input that records what is wrong with a container as a whole.

    Args:
        file: the container as an input.
        opened: the same container, open.
        error: the error to record.
        prefix: prefix of the locations in its format.
    """
    return SourceImage(
        file.image_id,
        file.source,
        file.uri,
        opened.size,
        opened.version,
        # A location within the container, so that the row is planned together with the contents.
        f"{prefix}:{opened.size}",
        f"{error.reason}|{recorded(str(error))}",
    )


def _image(
    archive: SourceImage,
    file: RangedFile,
    member: TarMember,
    seen: Counter[str],
    skipped: Counter[str],
) -> SourceImage | None:
    name = member.name
    is_safe = _is_safe(name)
    if is_safe and member.kind is MemberKind.FOLDER:
        return None
    fault = None if is_safe else (RejectReason.UNSAFE_NAME, _unsafe(name))
    fault = fault or _FAULTS.get(member.kind)
    if fault is None or fault[0] is RejectReason.UNSUPPORTED_ARCHIVE:
        extension = _extension(name)
        hidden = any(part.startswith(".") and part != "." for part in name.split("/"))
        if hidden or member.kind is MemberKind.OTHER or extension not in image_extensions():
            skipped[extension if 1 < len(extension) <= _LONGEST else _NO_EXTENSION] += 1
            return None
    plain = posixpath.normpath(name) if is_safe else name
    number = seen[plain]
    seen[plain] += 1
    if number and fault is None:
        message = f"an earlier member of the archive has the same name; this is number {number + 1}"
        fault = RejectReason.DUPLICATE_NAME, message
    identity = archive.uri + b"::" + name.encode("utf-8", "surrogateescape")
    if number:
        # A name cannot contain a zero byte, so no other member can have this identity.
        identity += b"\0%d" % number
    return SourceImage(
        image_id(identity),
        f"{archive.source}::{_shown(name)}",
        archive.uri,
        member.size,
        file.version,
        f"tar:{member.offset}",
        "" if fault is None else f"{fault[0]}|{fault[1]}",
    )


def _is_safe(name: str) -> bool:
    """Return whether a member's path stays within the folder that an archive is extracted to."""
    if not name or name[0] in "/\\" or "\0" in name or _DRIVE.match(name):
        return False
    return ".." not in name.replace("\\", "/").split("/")


def _unsafe(name: str) -> str:
    if not name or "\0" in name:
        return "its name is none that a file can have"
    return "its name leads out of the archive; nothing of such a name is read"


def _extension(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _shown(name: str) -> str:
    shown = recorded(name)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
