"""Convert the entries of a list of URIs to inputs."""

from __future__ import annotations

import os
import posixpath
from urllib.parse import unquote

from restyle.core.errors import RejectReason
from restyle.core.shown_text import recorded
from restyle.pipeline.sources.lists.addresses import LOCAL, LONGEST, fault_of, known_scheme
from restyle.pipeline.sources.lists.spellings import (
    WINDOWS,
    is_comment,
    is_null,
    is_windows,
    spellings,
    unquoted,
)
from restyle.pipeline.sources.local_files import FILE, local_image
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import absolute_path
from restyle.pipeline.storage.url_secrets import lasting_part, without_secrets

_MAY_BE_SECRET = frozenset("@?#;=")
_SHOWN = 300


class EntryReader:
    """Converter of the entries of one list to inputs.

    Args:
        folder: URI (local: ``file://``) of the folder that contains the list.

    Attributes:
        needs: what is missing to read the first entry whose scheme is known but unusable, such as a
            package; or empty.
        empty: number of blank entries and null values.
        comments: number of comments.
        respelled: number of entries whose file was found under another spelling.
        example: the first respelled entry and the path of its file.
    """

    def __init__(self, folder: bytes) -> None:
        self.empty = 0
        self.comments = 0
        self.respelled = 0
        self.example = ("", "")
        self._local = os.fsdecode(folder.removeprefix(FILE)) if folder.startswith(FILE) else None
        self._folder = os.fsdecode(folder)
        scheme, _, root = self._folder.partition("://")
        # The list's own bucket is accepted under any name, since the list was read from it.
        self._own = f"{scheme}://{root.partition('/')[0]}/"
        self._schemes: dict[str, str] = {}
        self.needs = ""

    def __call__(self, entry: str) -> SourceImage | None:
        """Return the input that an entry names, with a fault if invalid; None if it is empty.

        The size and modification time of local files are looked up; remote files are not requested.
        A missing local file is searched for under other spellings.
        """
        if len(entry) > LONGEST:
            message = f"the entry is longer than {LONGEST:,} characters"
            return _faulty(
                f"{without_secrets(entry)[0][:_SHOWN]}...",
                RejectReason.UNREADABLE,
                message,
                _raw(entry),
            )
        scheme, mark, rest = entry.partition("://")
        if mark and scheme.lstrip()[:1] in ('"', "'"):
            scheme, mark, rest = unquoted(entry).partition("://")
        if mark and not is_comment(scheme):
            return self._address(scheme.strip(), rest.strip())
        if not entry.strip():
            self.empty += 1
            return None
        if self._local is None and not entry.startswith("/"):
            return self._relative(entry)
        return self._local_entry(entry)

    def _local_entry(self, entry: str) -> SourceImage | None:
        # Plain strings rather than paths: a list may have millions of entries.
        folder = self._local or "/"
        path = os.path.join(folder, entry)  # noqa: PTH118
        image = None if "\0" in entry else local_image(absolute_path(path))
        if image is None or image.size >= 0 or os.path.lexists(path):
            return _local(path)
        for other in spellings(entry.removeprefix("file:")):
            spelled = absolute_path(os.path.join(folder, other))  # noqa: PTH118
            if "\0" not in other and os.path.isfile(spelled):  # noqa: PTH113
                return self._respelled(entry, spelled)
        return image if self._names_file(entry) else self._no_file(entry)

    def _relative(self, entry: str) -> SourceImage | None:
        """Resolve an entry of a remote list relative to the folder of the list."""
        if not self._names_file(entry):
            return self._no_file(entry)
        scheme, _, root = self._folder.partition("://")
        # ``..`` goes up at most to the bucket, whose name takes the place of the host.
        bucket, _, within = root.partition("/")
        path = posixpath.normpath(posixpath.join("/", within, unquoted(entry)))
        return self._remote(scheme, f"{bucket}{path}")

    def _names_file(self, entry: str) -> bool:
        return not (is_comment(entry) or is_null(entry) or is_windows(unquoted(entry)))

    def _no_file(self, entry: str) -> SourceImage | None:
        """Return a reject, or None, for an entry that cannot name a local file."""
        if is_comment(entry):
            self.comments += 1
        elif is_null(entry):
            self.empty += 1
        else:
            return _faulty(unquoted(entry), RejectReason.UNREADABLE, WINDOWS)
        return None

    def _respelled(self, entry: str, path: str) -> SourceImage:
        if not self.respelled:
            self.example = recorded(entry[:_SHOWN]), recorded(path)
        self.respelled += 1
        return _local(path)

    def _address(self, spelled: str, rest: str) -> SourceImage:
        scheme = self._schemes.get(spelled)
        if scheme is None:
            scheme, fault = known_scheme(spelled)
            if fault:
                if scheme:
                    self.needs = self.needs or fault
                shown, _ = without_secrets(f"{scheme or spelled}://{rest}")
                return _faulty(shown, RejectReason.UNREADABLE, fault)
            self._schemes[spelled] = scheme
        if scheme in LOCAL:
            return self._local_address(rest)
        return self._remote(scheme, rest)

    def _local_address(self, rest: str) -> SourceImage:
        """Resolve a ``file://`` URI, as a plain path or percent-encoded."""
        image = _local(rest)
        if image.size < 0 and not image.fault:
            # In file:///C:/photos the drive follows a slash.
            if is_windows(rest.lstrip("/")):
                return _faulty(f"file://{rest}", RejectReason.UNREADABLE, WINDOWS)
            for other in (unquote(rest), unquote(rest).removeprefix("localhost")):
                if "\0" not in other and os.path.isfile(other):  # noqa: PTH113
                    return self._respelled(f"file://{rest}", absolute_path(other))
        return image

    def _remote(self, scheme: str, rest: str) -> SourceImage:
        uri = f"{scheme}://{rest}"
        if not _MAY_BE_SECRET.isdisjoint(uri):
            bare, has_secret = without_secrets(uri)
            if has_secret:
                return _faulty(
                    bare,
                    RejectReason.UNSAFE_NAME,
                    "the entry carries a password, a signature or a query, which would be "
                    "recorded; list plain addresses and give credentials through the environment",
                    _raw(lasting_part(uri)),
                )
        try:
            encoded = uri.encode()
        except UnicodeEncodeError:
            return _faulty(uri, RejectReason.UNREADABLE, "the address is not in UTF-8")
        fault = "" if uri.startswith(self._own) else fault_of(scheme, rest)
        if fault:
            return _faulty(uri, RejectReason.UNREADABLE, fault)
        return SourceImage(image_id(encoded), recorded(uri), encoded, -1, "")


def _local(path: str) -> SourceImage:
    if "\0" in path:
        return _faulty(path, RejectReason.UNSAFE_NAME, "no file can have this name")
    absolute = absolute_path(path)
    image = local_image(absolute)
    if image is not None:
        return image
    identity = FILE + os.fsencode(absolute)
    message = "it is a folder or a device, not a file"
    return _faulty(absolute, RejectReason.UNREADABLE, message, identity)


def _faulty(name: str, reason: RejectReason, message: str, identity: bytes = b"") -> SourceImage:
    uri = _raw(name)
    fault = f"{reason}|{message}"
    return SourceImage(image_id(identity or uri), recorded(name), uri, -1, "", "", fault)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
