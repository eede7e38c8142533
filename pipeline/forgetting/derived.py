"""Records of what was made of an output elsewhere: edits and exports.

``_ledger/derived-<digest>.json`` names one of them, so that forgetting an input reaches it.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from restyle.core.errors import RestyleError
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import Storage

_PREFIX = f"{ledger.FOLDER}/derived-"

Kind = Literal["edits", "export"]


class Derived(BaseModel):
    """Something that was made of an output.

    Attributes:
        format: Version of the file format.
        kind: ``edits`` for an output of ``restyle edit``, ``export`` for a folder.
        address: Its path or URI, without credentials.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    kind: Kind
    address: str

    @property
    def name(self) -> str:
        """Path of the record, relative to the output."""
        return f"{_PREFIX}{hashlib.sha256(self.address.encode()).hexdigest()[:16]}.json"


def record_derived(storage: Storage, derived: Derived) -> str:
    """Record what is about to be made of an output.

    Returns:
        A note for the user if the output cannot be written, such as one that is only read here;
        empty otherwise.
    """
    try:
        storage.write(derived.name, derived.model_dump_json().encode())
    except RestyleError as error:
        return (
            f"{storage.uri} cannot note that {derived.address} is made of it ({error}); name it "
            "with --also to restyle forget"
        )
    return ""


def withdraw_derived(storage: Storage, derived: Derived) -> None:
    """Remove the record of what was not made after all; where that fails, it stays."""
    with contextlib.suppress(RestyleError):
        storage.delete(derived.name)


def read_derived(storage: Storage) -> list[Derived]:
    """Read the records of an output; damaged ones are passed over."""
    names = [name for name in storage.sizes(ledger.FOLDER) if name.startswith(_PREFIX)]
    found = []
    for data in storage.read_many(names):
        try:
            found.append(Derived.model_validate_json(data))
        except ValidationError:
            continue
    return found
