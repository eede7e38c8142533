"""Infer the domain of a published checkpoint from its options and weight shapes.

No file states its domain. The evidence, most reliable first: a known data set name; the face
identity loss, with which ReStyle and pSp train on faces only; words in an unknown data set's name;
and shapes that were published for faces only.
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
    """The inferred domain of a checkpoint.

    Attributes:
        preset: settings of the domain.
        reason: evidence for the domain, as a clause for messages.
    """

    preset: DomainPreset
    reason: str


def choose_domain(
    options: Mapping[str, Any], kind: EncoderKind, size: int, asked: str = ""
) -> DomainChoice:
    """Choose the domain of a published checkpoint.

    Args:
        options: ``opts`` of the file.
        kind: architecture of its encoder.
        size: width and height of its generator's images in pixels.
        asked: requested domain, or the file's own data set name, which stands for a domain without
            special settings; empty to infer the domain.

    Raises:
        SpecError: the requested domain is unknown.
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
    # e4e has only id_lambda, which weights MoCo on domains without faces; so id_lambda is evidence
    # of faces only in files that also have moco_lambda.
    tells = "moco_lambda" in options
    if tells and (weight := _number(options, "id_lambda")):
        reason = f"trained with a loss of identity, id_lambda {weight:g}"
        yield DomainChoice(preset_of(_FACES), reason)
    has_no_faces = bool(_number(options, "moco_lambda"))
    named = preset_named_in(dataset)
    if named is not None and not (named.align and has_no_faces):
        yield DomainChoice(named, by_name)
    # ResNet34 encoders start from an object classifier, the others from a face recogniser.
    if size == _SIZE_OF_FACES and not has_no_faces and not kind.startswith("ResNet"):
        reason = f"{size}x{size} pixels and an encoder of this kind are published for faces alone"
        yield DomainChoice(preset_of(_FACES), reason)


def _number(options: Mapping[str, Any], name: str) -> float:
    """Return an option that is a positive finite number; 0 otherwise."""
    value: object = options.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 < value < float("inf") else 0.0
