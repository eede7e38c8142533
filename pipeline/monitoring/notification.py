"""Who is told of a run's end: an address, or a command."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from urllib.parse import urlsplit

from restyle.core.errors import SpecError
from restyle.pipeline.storage.addresses import shown_uri
from restyle.pipeline.storage.url_secrets import secret_in

_VARIABLE = "env:"
_WEB = ("http://", "https://")


@dataclass(frozen=True)
class Recipient:
    """Who is told.

    Attributes:
        address: URL that gets a POST; empty for a command.
        command: words of the command; empty for a URL.
    """

    address: str = ""
    command: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The recipient without what may be a secret: server or program."""
        if not self.address:
            return self.command[0]
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.hostname}"


def is_web(text: str) -> bool:
    """Whether a recipient is a URL, whose scheme may be in capitals."""
    return text.lower().startswith(_WEB)


def check_recipient(text: str) -> None:
    """Check the form of a recipient, on whatever machine that is.

    Args:
        text: ``http://`` or ``https://`` URL, command, or ``env:NAME``.

    Raises:
        SpecError: it has none of these forms, or shows a secret.
    """
    if text.startswith(_VARIABLE):
        if not text.removeprefix(_VARIABLE).isidentifier():
            raise SpecError("env: wants the name of a variable, as in env:WEBHOOK")
    elif is_web(text):
        if secret_in(text) is not None:
            raise SpecError(
                "leave the password, signature or query out of the URL; put it into a variable, "
                "and name that as in env:WEBHOOK"
            )
        _checked(text)
    else:
        _words(text)


def recipient_of(text: str) -> Recipient:
    """Return the recipient that the user names.

    Args:
        text: as for :func:`check_recipient`.

    Raises:
        SpecError: the variable is not set, the URL is none, or the program does not exist.
    """
    try:
        return _found(text)
    except SpecError as error:
        raise SpecError(f"--notify: {error}") from error


def _found(text: str) -> Recipient:
    name = text.removeprefix(_VARIABLE) if text.startswith(_VARIABLE) else ""
    if name:
        text = os.environ.get(name, "")
        if not text:
            raise SpecError(f"the variable {name} is not set")
    if is_web(text):
        return Recipient(address=_checked(text))
    words = _words(text)
    if shutil.which(words[0]) is None:
        # A variable may hold a secret, such as the URL of a webhook whose scheme was forgotten.
        shown = f"of the name that {_VARIABLE}{name} begins with" if name else shown_uri(words[0])
        raise SpecError(f"there is no program {shown}, and it is no http(s) URL")
    return Recipient(command=words)


def _checked(url: str) -> str:
    try:
        # The port is read because it may be no number.
        is_whole = bool(urlsplit(url).hostname) and (urlsplit(url).port or 1)
    except ValueError:
        is_whole = False
    if not is_whole or any(each.isspace() for each in url):
        raise SpecError("should be a URL with a host, a command, or env:NAME")
    return url


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise SpecError(f"the command cannot be taken apart: {error}") from error
    if not words or "\0" in command:
        raise SpecError("should be a URL with a host, a command, or env:NAME")
    return words
