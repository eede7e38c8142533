"""Types of values that have a form of their own on the command line, or a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from restyle.pipeline.sources.formats.source_format import FORMATS
from restyle.pipeline.storage.filesystem import shown_uri
from restyle.pipeline.storage.url_secrets import secret_in


def _pool(value: object) -> object:
    """Convert the command line's forms ``2:8`` and ``4`` to a pool."""
    if isinstance(value, str):
        fewest, colon, most = value.partition(":")
        if not fewest.strip().isdecimal() or not (most.strip().isdecimal() or not colon):
            raise ValueError("should be MIN:MAX, such as 2:8, or one number")
        return int(fewest), int(most if colon else fewest)
    if isinstance(value, int):
        return value, value
    return tuple(value) if isinstance(value, list) else value


def _names(value: object) -> object:
    """Convert the command line's forms ``l2,lpips`` and ``none`` to a list."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    return () if names == ("none",) else names


@dataclass(frozen=True)
class Spelled:
    """Annotation of a field with its form on the command line.

    Attributes:
        name: of the option, or of an argument in capitals; from the field's name when empty.
        metavar: placeholder of the value in the help; from the type when None.
    """

    name: str = ""
    metavar: str | None = None


if TYPE_CHECKING:
    InputFormat = str
else:
    # Depends on the installed packages.
    InputFormat = Literal["auto", "files", *FORMATS]

Pool = Annotated[tuple[int, int] | None, BeforeValidator(_pool), Spelled(metavar="MIN:MAX")]
MetricList = Annotated[tuple[str, ...] | None, BeforeValidator(_names), Spelled(metavar="LIST")]


def _public(uri: str) -> str:
    """Refuse a URI with a secret, because URIs are recorded; the message does not contain it."""
    if secret_in(uri) is not None:
        raise ValueError(
            f"leave the password or signature out of {shown_uri(uri)}; give it through the "
            "environment, it would be recorded otherwise"
        )
    return uri


PublicUri = Annotated[str, AfterValidator(_public)]
