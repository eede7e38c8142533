"""What stands in a list of URIs, as inputs."""

from __future__ import annotations

import os
import posixpath

from restyle.core.errors import RejectReason, SpecError
from restyle.core.shown_text import recorded
from restyle.pipeline.sources.local_files import FILE, local_image
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import absolute_path
from restyle.pipeline.storage.url_secrets import lasting_part, without_secrets

_LOCAL = ("file", "local")
_SPELLINGS = {"s3a": "s3", "gcs": "gs"}
_MAY_BE_SECRET = frozenset("@?#;=")


class EntryReader:
    """Makes inputs of the entries of one list.

    Args:
        folder: URI (local: ``file://``) of the folder that the list is in.
    """

    def __init__(self, folder: bytes) -> None:
        self._local = os.fsdecode(folder.removeprefix(FILE)) if folder.startswith(FILE) else None
        self._folder = os.fsdecode(folder)
        self._schemes: dict[str, str] = {}

    def __call__(self, entry: str) -> SourceImage | None:
        """The input that an entry names; None when it is empty.

        Of local files it is looked up how large they are and when they changed; remote ones are
        not asked for.

        Raises:
            SpecError: a package is missing for addresses of this kind.
        """
        scheme, mark, rest = entry.partition("://")
        if mark:
            return self._address(scheme.strip(), rest.strip())
        if not entry.strip():
            return None
        if self._local is None and not entry.startswith("/"):
            scheme, _, root = self._folder.partition("://")
            # Names go up at most to the bucket, whose name stands where a host would.
            bucket, _, within = root.partition("/")
            path = posixpath.normpath(posixpath.join("/", within, entry))
            return _remote(f"{scheme}://{bucket}{path}")
        return _local(os.path.join(self._local or "/", entry))  # noqa: PTH118 (a million times)

    def _address(self, spelled: str, rest: str) -> SourceImage | None:
        scheme = self._schemes.get(spelled)
        if scheme is None:
            scheme = self._schemes[spelled] = _known_scheme(spelled)
        if scheme in _LOCAL:
            return _local(rest)
        if not scheme:
            shown, _ = without_secrets(f"{spelled}://{rest}")
            return _faulty(shown, RejectReason.UNREADABLE, "no such kind of address is known")
        return _remote(f"{scheme}://{rest}")


def _remote(uri: str) -> SourceImage:
    if not _MAY_BE_SECRET.isdisjoint(uri):
        bare, has_secret = without_secrets(uri)
        if has_secret:
            return _faulty(
                bare,
                RejectReason.UNSAFE_NAME,
                "the entry carries a password, a signature or a query, which would be recorded; "
                "list plain addresses and give credentials through the environment",
                lasting_part(uri).encode("utf-8", "surrogateescape"),
            )
    try:
        encoded = uri.encode()
    except UnicodeEncodeError:
        return _faulty(uri, RejectReason.UNREADABLE, "the address is not in UTF-8")
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
    uri = name.encode("utf-8", "surrogateescape")
    fault = f"{reason}|{message}"
    return SourceImage(image_id(identity or uri), recorded(name), uri, -1, "", "", fault)


def _known_scheme(spelled: str) -> str:
    """A scheme as this project spells it; empty when nobody knows it.

    Raises:
        SpecError: it is known, but its package is not installed.
    """
    from fsspec import get_filesystem_class

    scheme = _SPELLINGS.get(spelled.lower(), spelled.lower())
    if scheme in _LOCAL:
        return scheme
    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        raise SpecError(f"the list names {scheme}:// addresses: {error}") from error
    except ValueError:
        return ""
    return scheme
