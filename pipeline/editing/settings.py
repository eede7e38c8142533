"""Fingerprinted settings of an output of edits; an output has rows of one fingerprint."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from restyle.core.editing.directions import Direction
from restyle.core.errors import SpecError
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.storage.filesystem import Storage

NAME = "_ledger/edit-settings.json"
MAX_EDITS = 1000
"""Maximum number of combinations of strengths."""

PasteBack = Literal["none", "face", "change"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EditedDirection(_Frozen):
    """A direction with strengths.

    Attributes:
        name: of the direction.
        sha256: of its vector and scale.
        layers: the styles to move; all when None.
        strengths: in units of its scale.
    """

    name: str
    sha256: str
    layers: tuple[int, ...] | None
    strengths: tuple[float, ...]


class EditSettings(Settings):
    """Settings of an output of edits.

    Attributes:
        format: version of the dataset.
        source: fingerprint of the inversion's settings.
        model: name of the rendering model and its encoder.
        model_fingerprint: of that model.
        directions: in order of application; edits are all combinations of their strengths.
        truncation: share of a latent's distance to the average that is kept.
        attributes: attributes scored by landmarks.
        paste_back: what is pasted into the photographs: nothing, the whole face, or its change.
    """

    format: Literal[2] = 2
    source: str
    model: str
    model_fingerprint: str
    directions: tuple[EditedDirection, ...]
    truncation: float
    attributes: tuple[str, ...]
    paste_back: PasteBack

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all fields, in hex."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def combinations(self) -> list[tuple[float, ...]]:
        """Strengths of each edit, one per direction."""
        return list(itertools.product(*(each.strengths for each in self.directions)))

    def check(self) -> None:
        """Check the number of edits and the names of directions.

        Raises:
            SpecError: there are too many edits, or a direction occurs twice.
        """
        count = math.prod(len(each.strengths) for each in self.directions)
        if count > MAX_EDITS:
            raise SpecError(f"{count} combinations of strengths; at most {MAX_EDITS} are edited")
        names = [each.name for each in self.directions]
        if len(set(names)) < len(names):
            raise SpecError(f"a direction is given twice among {', '.join(names)}")


def digest(direction: Direction) -> str:
    """SHA-256 of a direction's vector and scale, in hex."""
    hashed = hashlib.sha256(repr(direction.about.scale).encode())
    hashed.update(direction.vector.tobytes())
    return hashed.hexdigest()


def check_same(storage: Storage, settings: EditSettings, earlier: EditSettings) -> None:
    """Check that an output was made with these settings.

    Raises:
        SpecError: it was made with others; the message names the differences.
    """
    then, now = earlier.model_dump(mode="json"), settings.model_dump(mode="json")
    different = [name for name in now if then[name] != now[name]]
    if different:
        raise SpecError(
            f"{storage.uri} holds edits that were made with other settings "
            f"({', '.join(different)}); choose another --out"
        )
