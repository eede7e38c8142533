"""What shapes the rows of ``edits/``, fingerprinted: no folder of edits holds a mixture."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.storage.filesystem import Storage

NAME = "_ledger/edit-settings.json"
MAX_EDITS = 1000
"""Most combinations of strengths."""

PasteBack = Literal["none", "face", "change"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EditedDirection(_Frozen):
    """A direction and how far to go along it.

    Attributes:
        name: what it is called.
        sha256: of its vector and its scale.
        layers: the styles that are moved; all when None.
        strengths: in units of its scale.
    """

    name: str
    sha256: str
    layers: tuple[int, ...] | None
    strengths: tuple[float, ...]


class EditSettings(Settings):
    """What an output of edits was made with.

    Attributes:
        format: version of the dataset.
        source: fingerprint of the settings that the edited latents were made with.
        model: name of the model that renders, and of its encoder.
        model_fingerprint: of that model.
        directions: in the order in which they are applied; every strength of the first with every
            one of the second, and so on.
        truncation: share of a latent's distance to the average that is kept.
        attributes: what is scored by landmarks.
        paste_back: nothing is put back into the photographs, the whole face, or what changed.
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
        """The strengths of every edit, one for each direction."""
        return list(itertools.product(*(each.strengths for each in self.directions)))

    def check(self) -> None:
        """Find out whether the edits can be numbered and named.

        Raises:
            SpecError: there are too many, or a direction twice.
        """
        count = math.prod(len(each.strengths) for each in self.directions)
        if count > MAX_EDITS:
            raise SpecError(f"{count} combinations of strengths; at most {MAX_EDITS} are edited")
        names = [each.name for each in self.directions]
        if len(set(names)) < len(names):
            raise SpecError(f"a direction is given twice among {', '.join(names)}")


def check_same(storage: Storage, settings: EditSettings, earlier: EditSettings) -> None:
    """See that an output was made with these settings.

    Raises:
        SpecError: it was made with others; the message says which differ.
    """
    then, now = earlier.model_dump(mode="json"), settings.model_dump(mode="json")
    different = [name for name in now if then[name] != now[name]]
    if different:
        raise SpecError(
            f"{storage.uri} holds edits that were made with other settings "
            f"({', '.join(different)}); choose another --to"
        )
