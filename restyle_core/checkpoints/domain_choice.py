"""The domain of a published checkpoint: no file names it, but its options and shapes tell.

What they tell, the surest first: the name of a data set that is known; the loss of a face's
identity, which ReStyle and pSp train with on faces alone; words in the name of a data set of the
user's own; and the shapes in which models were published for faces alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from restyle.core.domains import (
    DOMAINS,
    DomainPreset,
    preset_named_in,
    preset_of,
    preset_of_dataset,
)
from restyle.core.errors import SpecError
from restyle.core.networks.config import EncoderKind

_FACES = "faces"

# The only published generators of this size are for faces (FFHQ, MetFaces, and toonified ones).
_SIZE_OF_FACES = 1024

_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class DomainChoice:
    """What a checkpoint is for, and why.

    Attributes:
        preset: of the domain.
        reason: what tells, as a clause.
    """

    preset: DomainPreset
    reason: str


def choose_domain(
    options: Mapping[str, Any], kind: EncoderKind, size: int, asked: str = ""
) -> DomainChoice:
    """Decide what a published checkpoint is for.

    Args:
        options: ``opts`` of the file.
        kind: of its encoder.
        size: of its generator's images in pixels.
        asked: a domain, or the file's own name for its data set, which is then one of its own with
            nothing special; empty to go by the file.

    Raises:
        SpecError: there is no such domain.
    """
    given = str(options.get("dataset_type") or "unknown")[:_MOST_CHARACTERS]
    dataset = given.removesuffix("_encode")
    if asked:
        if asked not in DOMAINS and asked != dataset:
            raise SpecError(
                f"there is no domain {asked!r}; there are {', '.join(DOMAINS)}, and {dataset!r}, "
                "as the file itself says, which has nothing special"
            )
        return DomainChoice(preset_of(asked), "as given")
    unknown = DomainChoice(
        preset_of_dataset(dataset),
        f"nothing is known of dataset_type {given!r}; --domain chooses otherwise",
    )
    return next(_evidence(options, kind, size, given, dataset), unknown)


def _evidence(
    options: Mapping[str, Any], kind: EncoderKind, size: int, given: str, dataset: str
) -> Iterator[DomainChoice]:
    by_name = f"its dataset_type is {given}"
    if (preset := preset_of_dataset(dataset)).name in DOMAINS:
        yield DomainChoice(preset, by_name)
    # e4e has one option for both losses, and gives it to MoCo where there are no faces.
    tells = "moco_lambda" in options
    if tells and (weight := _number(options, "id_lambda")):
        reason = f"trained with a loss of identity, id_lambda {weight:g}"
        yield DomainChoice(preset_of(_FACES), reason)
    has_no_faces = bool(_number(options, "moco_lambda"))
    named = preset_named_in(dataset)
    if named is not None and not (named.align and has_no_faces):
        yield DomainChoice(named, by_name)
    # Those with ResNet34 begin as a classifier of things, the others as one of faces.
    if size == _SIZE_OF_FACES and not has_no_faces and not kind.startswith("ResNet"):
        reason = f"{size}x{size} pixels and an encoder of this kind are published for faces alone"
        yield DomainChoice(preset_of(_FACES), reason)


def _number(options: Mapping[str, Any], name: str) -> float:
    """An option that is a positive number; 0 otherwise."""
    value: object = options.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 < value < float("inf") else 0.0
