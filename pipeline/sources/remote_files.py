"""List files of object stores and other remote file systems, page by page."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from fsspec.utils import glob_translate

from restyle.core.errors import FatalError, SpecError
from restyle.core.shown_text import recorded
from restyle.pipeline.sources.output_names import RemoteFiles
from restyle.pipeline.sources.patterns import before_magic, has_magic
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import local_path, open_filesystem, storage_errors
from restyle.pipeline.storage.retries import retrying
from restyle.pipeline.storage.url_secrets import without_secrets

_S3 = "s3"


def list_remote(
    source: str, out: str, passed: Callable[[str], None] = lambda _folder: None
) -> Iterator[SourceImage]:
    """Yield all non-hidden files that a URI names, sorted by URI.

    Memory holds one page of names at a time for S3; for other stores it holds the listings of one
    folder and its parent folders.

    Args:
        source: a file, a folder (prefix), or a pattern.
        out: path or URI of the output; files of this or any other output are skipped.
        passed: callback that receives each folder in which another output was skipped.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        SpecError: the address is invalid, or its package is missing.
        FatalError: listing is not permitted.
        TransientError: the store still fails after all retries.
    """
    filesystem, path = open_filesystem(source)
    root = full_uri(source)
    is_pattern = has_magic(path) and not _ask(filesystem.exists, path, path)
    base = before_magic(root) if is_pattern else root
    remote_out = None if local_path(out) is not None else full_uri(out)
    barred = RemoteFiles(
        remote_out, base, passed, lambda uri: bool(_ask(filesystem.exists, uri, uri))
    )
    fits = _matcher(path, before_magic(path)) if is_pattern else None
    for name, entry in _entries(filesystem, before_magic(path) if is_pattern else path):
        uri = str(filesystem.unstrip_protocol(name))
        barred.see(uri)
        below = uri.removeprefix(base).lstrip("/").split("/")
        hidden = uri != root and any(part.startswith(".") for part in below)
        if hidden or barred(uri) or (fits is not None and not fits(name)):
            continue
        size, version = size_and_version(entry)
        encoded = uri.encode("utf-8", "surrogateescape")
        shown = recorded(without_secrets(uri)[0])
        yield SourceImage(image_id(encoded), shown, encoded, size, version)


def full_uri(source: str) -> str:
    """Return a remote URI as its file system spells it, a prefix of the URIs of listed files.

    Raises:
        SpecError: the address is invalid, or its package is missing.
    """
    filesystem, path = open_filesystem(source)
    return str(filesystem.unstrip_protocol(path)).rstrip("/")


def size_and_version(entry: dict[str, Any]) -> tuple[int, str]:
    """Return a listed file's size in bytes (or -1) and its ETag or modification time (or empty)."""
    size = entry.get("size", entry.get("Size"))
    version = entry.get("ETag") or entry.get("LastModified") or entry.get("mtime") or ""
    return -1 if size is None else int(size), str(version).strip('"')


def _entries(filesystem: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and details of every file below a folder, or of the file itself."""
    if _S3 in filesystem.protocol:
        bucket, key, _ = filesystem.split_path(path)
        if has_magic(bucket) or not bucket:
            raise SpecError(f"s3://{path}: name one bucket; patterns begin after it")
        found = False
        for page in _s3_pages(filesystem, bucket, f"{key.rstrip('/')}/" if key else ""):
            for entry in page:
                found = True
                # Names with a trailing slash are placeholders that programs create for folders.
                if not entry["Key"].endswith("/"):
                    yield f"{bucket}/{entry['Key']}", entry
        if found:
            return
    info = _ask(filesystem.info, path, path)
    if info["type"] == "file":
        yield path, info
    elif _S3 not in filesystem.protocol:
        yield from _below(filesystem, path.rstrip("/"))


def _s3_pages(filesystem: Any, bucket: str, prefix: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects below a prefix, up to a thousand per page."""
    where = {"Bucket": bucket, "Prefix": prefix, **filesystem.req_kw}
    token = ""
    while True:
        more = {"ContinuationToken": token} if token else {}
        page = _ask(filesystem.call_s3, f"{bucket}/{prefix}", "list_objects_v2", **where, **more)
        yield page.get("Contents", [])
        if not page.get("IsTruncated"):
            return
        earlier, token = token, page.get("NextContinuationToken", "")
        if token in ("", earlier):
            raise FatalError(f"the listing of s3://{bucket}/{prefix} does not come to an end")


def _below(filesystem: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files below a folder of a file system that lists folder by folder."""
    pending = [iter(_listing(filesystem, folder))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif entry["type"] == "directory":
            pending.append(iter(_listing(filesystem, str(entry["name"]).rstrip("/"))))
        elif entry["type"] == "file" and not str(entry["name"]).endswith("/"):
            yield str(entry["name"]), entry


def _listing(filesystem: Any, folder: str) -> list[dict[str, Any]]:
    """Return the direct contents of a folder sorted by full name, without the folder itself."""
    try:
        entries = _ask(filesystem.ls, folder, folder, detail=True)
    except FileNotFoundError:
        # The folder was removed after its parent was listed.
        return []
    inside = [
        (str(entry["name"]).rstrip("/") + ("/" if entry["type"] == "directory" else ""), entry)
        for entry in entries
        if str(entry["name"]).rstrip("/").startswith(f"{folder}/")
    ]
    return [entry for _, entry in sorted(inside, key=lambda pair: pair[0])]


def _matcher(pattern: str, base: str) -> Callable[[str], bool]:
    """Return a function that tells whether a pattern matches a file or one of its folders."""
    fits = re.compile(glob_translate(pattern)).match
    shortest = len(base.rstrip("/"))

    @functools.lru_cache(maxsize=1024)
    def folder_fits(folder: str) -> bool:
        if len(folder) <= shortest:
            return False
        return fits(folder) is not None or folder_fits(folder.rpartition("/")[0])

    return lambda name: fits(name) is not None or folder_fits(name.rpartition("/")[0])


def _ask(call: Callable[..., Any], path: str, *arguments: Any, **options: Any) -> Any:
    """Call a file system function, and retry while the store fails temporarily."""

    def attempt() -> Any:
        with storage_errors("cannot list", recorded(path)):
            return call(*arguments, **options)

    return retrying(attempt)
