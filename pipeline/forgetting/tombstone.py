"""Tombstones: which inputs were forgotten, without their names.

``_ledger/forgotten.json`` holds a salt and, for each forgotten input, a keyed digest of its
``image_id``. Who has the file can confirm a name that they guess, but read none from it. While
inputs are being removed, ``_ledger/forgetting.json`` (:mod:`restyle.pipeline.forgetting.journal`)
exists as well, and nothing else may change the output.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.core.errors import DamagedError, FatalError
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import Storage

TOMBSTONE = f"{ledger.FOLDER}/forgotten.json"
JOURNAL = f"{ledger.FOLDER}/forgetting.json"

_SALT_BYTES = 32


class Tombstone(BaseModel):
    """Content of ``_ledger/forgotten.json``.

    Attributes:
        format: Version of the file format.
        salt: Key of the digests, in hex.
        inputs: Keyed digests of ``image_id``, in hex.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    inputs: frozenset[str] = frozenset()

    @classmethod
    def read(cls, storage: Storage, names: Collection[str] | None = None) -> Tombstone | None:
        """Read the tombstone of an output; None if nothing was forgotten.

        Args:
            storage: the output.
            names: names of the files in its ledger, to save a request; None if not known.

        Raises:
            DamagedError: the file is damaged.
        """
        if names is not None and TOMBSTONE not in names:
            return None
        try:
            return cls.model_validate_json(storage.read(TOMBSTONE))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DamagedError(
                f"{storage.shown(TOMBSTONE)} is damaged; restore it, because without it forgotten "
                "inputs would come back"
            ) from error

    def holds(self, image_id: str) -> bool:
        """Whether an input was forgotten."""
        return self._digest(image_id) in self.inputs

    def _digest(self, image_id: str) -> str:
        key = bytes.fromhex(self.salt)
        return hashlib.blake2b(image_id.encode(), key=key, digest_size=16).hexdigest()

    def with_(self, image_ids: Iterable[str]) -> Tombstone:
        """The same with further inputs."""
        return Tombstone(salt=self.salt, inputs=self.inputs.union(map(self._digest, image_ids)))


def remember(storage: Storage, image_ids: Iterable[str]) -> None:
    """Add inputs to the tombstone of an output."""
    earlier = Tombstone.read(storage) or Tombstone(salt=secrets.token_hex(_SALT_BYTES))
    storage.write(TOMBSTONE, earlier.with_(image_ids).model_dump_json().encode())


def check_complete(storage: Storage, names: Collection[str]) -> None:
    """Check that no removal of inputs was stopped half-way.

    Args:
        storage: the output.
        names: names of the files in its ledger.

    Raises:
        FatalError: one was.
    """
    if JOURNAL in names:
        raise FatalError(
            f"inputs of {storage.uri} are being forgotten, which is not complete; finish it with "
            f"`restyle forget {storage.uri} --yes`"
        )
