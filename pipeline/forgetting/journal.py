"""The journal of a removal, which holds until its end what is to be removed."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from restyle.core.errors import DamagedError
from restyle.pipeline.forgetting.tombstone import JOURNAL
from restyle.pipeline.storage.filesystem import Storage

SAMPLE_BYTES = 32
"""Bytes from the middle of a latent or picture by which it is searched for."""


class Journal(BaseModel):
    """Content of ``_ledger/forgetting.json``.

    Attributes:
        format: Version of the file format.
        image_ids: Inputs to remove.
        names: Sources and addresses of these inputs.
        samples: Bytes of their latents and pictures, in base64.
        also: Further outputs and folders that the user named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    image_ids: frozenset[str]
    names: frozenset[str] = frozenset()
    samples: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()

    def joined(self, other: Journal) -> Journal:
        """Both removals as one."""
        return Journal(
            image_ids=self.image_ids | other.image_ids,
            names=self.names | other.names,
            samples=self.samples | other.samples,
            also=tuple(dict.fromkeys((*self.also, *other.also))),
        )

    def write(self, storage: Storage) -> None:
        """Write or replace the journal of an output."""
        storage.write(JOURNAL, self.model_dump_json().encode())

    def sample_bytes(self) -> list[bytes]:
        """The samples, decoded."""
        return [base64.b64decode(each) for each in self.samples]


def read_journal(storage: Storage) -> Journal | None:
    """Read the journal of an output; None if no removal is under way.

    Raises:
        DamagedError: it is damaged.
    """
    try:
        return Journal.model_validate_json(storage.read(JOURNAL))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DamagedError(
            f"{storage.shown(JOURNAL)} is damaged; delete it and name the inputs again with "
            "restyle forget"
        ) from error


def samples_of(rows: pa.Table) -> Iterator[str]:
    """Yield samples of the latents and pictures in some rows, in base64."""
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if name == "latent":
            size = column.type.list_size
            flat = column.combine_chunks().flatten().to_numpy()
            values: Iterable[bytes | None] = (each.tobytes() for each in flat.reshape(-1, size))
        elif pa.types.is_binary(column.type):
            values = column.to_pylist()
        else:
            continue
        for value in values:
            if value is not None and len(value) >= SAMPLE_BYTES:
                start = (len(value) - SAMPLE_BYTES) // 2
                sample = value[start : start + SAMPLE_BYTES]
                # Bytes that any file may have, such as zeros, would be found everywhere.
                if len(np.unique(np.frombuffer(sample, np.uint8))) > SAMPLE_BYTES // 4:
                    yield base64.b64encode(sample).decode()
