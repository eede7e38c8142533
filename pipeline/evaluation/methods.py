"""Methods of inversion by name, and what each asks of the encoders of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from restyle.core.errors import SpecError
from restyle.core.networks.config import find_model
from restyle.pipeline.inversion.model_identity import ModelIdentity, identify
from restyle.pipeline.ledger.settings import (
    MAX_ITERATIONS,
    MAX_POLISH,
    MAX_STEPS,
    InversionSettings,
)

Needs = Literal["refining", "single-pass", "any", "none"]
"""Which encoder of a model a method takes: one that refines, one of a single pass, any, or none."""


@dataclass(frozen=True)
class Kind:
    """A method as it can be asked for.

    Attributes:
        help: what it does, for messages and the documentation.
        needs: the encoder it takes.
        fields: fields of :class:`InversionSettings` for a count.
        count: the count where none is given; None for a method without one.
        most: the largest count.
    """

    help: str
    needs: Needs
    fields: Callable[[int], Mapping[str, Any]]
    count: int | None = None
    most: int = 0


KINDS: dict[str, Kind] = {
    "restyle": Kind("an encoder that refines", "refining", lambda n: {"steps": n}, 5, MAX_STEPS),
    "single-pass": Kind("an encoder of a single pass", "single-pass", lambda _: {}),
    "polish": Kind(
        "an encoder, then N steps of optimisation", "any", lambda n: {"polish": n}, 50, MAX_POLISH
    ),
    "optimize": Kind(
        "N steps of optimisation from the average latent",
        "none",
        lambda n: {"start": "average", "iterations": n},
        500,
        MAX_ITERATIONS,
    ),
    "hybrid": Kind(
        "an encoder, then N steps of optimisation, as restyle optimize does them",
        "any",
        lambda n: {"start": "encoder", "iterations": n},
        100,
        MAX_ITERATIONS,
    ),
    "pti": Kind(
        "an encoder, then N steps of tuning the generator to each face",
        "any",
        lambda n: {"start": "encoder", "iterations": 0, "pivotal": n},
        350,
        MAX_ITERATIONS,
    ),
}
"""All methods by name; ``NAME:N`` gives the count."""


@dataclass(frozen=True)
class Method:
    """A method that was asked for.

    Attributes:
        family: a name of :data:`KINDS`.
        count: steps or iterations; 0 for a method without.
    """

    family: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Method:
        """Parse ``NAME`` or ``NAME:N``.

        Raises:
            SpecError: there is no such method, or the count is none of its.
        """
        name, colon, count = text.strip().partition(":")
        kind = KINDS.get(name)
        if kind is None:
            raise SpecError(f"there is no method {text!r}; choose among {known()}")
        if kind.count is None:
            if colon:
                raise SpecError(f"method {text!r}: {name} takes no number; write {name}")
            return cls(name, 0)
        if not colon:
            return cls(name, kind.count)
        if not re.fullmatch(r"[0-9]{1,9}", count) or not 1 <= int(count) <= kind.most:
            raise SpecError(
                f"method {text!r}: write {name}:N with a number from 1 to {kind.most:,}"
            )
        return cls(name, int(count))

    @property
    def kind(self) -> Kind:
        """What it does."""
        return KINDS[self.family]

    def __str__(self) -> str:
        """``hybrid:100``; without the number where it is the usual one of an encoder."""
        if self.kind.count is None or (self.family == "restyle" and self.count == self.kind.count):
            return self.family
        return f"{self.family}:{self.count}"


def known() -> str:
    """Names of all methods as they are written, in words."""
    return ", ".join(name if kind.count is None else f"{name}:N" for name, kind in KINDS.items())


@dataclass(frozen=True)
class Contender:
    """A method with a model.

    Attributes:
        method: the method.
        model: name of the model and its encoder; of the model alone for a method without.
        spec: the model as for :func:`restyle.core.inference.model.load_model`.
        identity: of that model.
    """

    method: Method
    model: str
    spec: str
    identity: ModelIdentity

    @property
    def folder(self) -> str:
        """Name of its folders in the evaluation."""
        words = f"{self.method}-{self.model}"
        return re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-.")

    def settings(self, base: InversionSettings) -> InversionSettings:
        """Settings of its inversion.

        Args:
            base: settings that all contenders have in common.
        """
        fields = dict(self.method.kind.fields(self.method.count))
        return InversionSettings.model_validate(base.model_dump() | {"model": self.spec} | fields)


def contenders(methods: Sequence[Method], models: Sequence[str]) -> list[Contender]:
    """Every method with every model that suits it, in the order of the methods.

    Raises:
        SpecError: a model does not exist, suits no method or cuts faces out another way than the
            first, no model suits a method, or a name is ambiguous.
        CheckpointError: a model is damaged.
    """
    if not methods or not models:
        raise SpecError("give at least one --method and one of --models")
    identities = [(spec, identify(spec)) for spec in models]
    _check_same_crops([identity for _, identity in identities])
    found: dict[str, Contender] = {}
    for method in methods:
        suiting = [
            each for spec, identity in identities if (each := _contender(method, spec, identity))
        ]
        if not suiting:
            raise SpecError(_unsuited(method, [identity for _, identity in identities]))
        for each in suiting:
            other = found.setdefault(each.folder, each)
            is_same = other.identity.fingerprint == each.identity.fingerprint
            if not is_same and method.kind.needs != "none":
                raise SpecError(
                    f"two models are called {each.model}: {other.spec} and {each.spec}; give one "
                    "of them another name"
                )
    return list(found.values())


def _contender(method: Method, spec: str, identity: ModelIdentity) -> Contender | None:
    """A method with a model; None if the model has no encoder that suits."""
    needs, config = method.kind.needs, identity.config
    if needs == "none":
        # Without its encoder, so that the output is the same one whichever encoder was named.
        named = _without_encoder(spec)
        return Contender(method, config.name, named, identify(named))
    if needs == "any" or (needs == "refining") == identity.iterative:
        return Contender(method, identity.name, spec, identity)
    if needs == "refining":
        # A single-pass model was named; that it has a sibling which refines was not asked for.
        return None
    sibling = _single_pass_beside(identity)
    if sibling is None:
        return None
    named = f"{_without_encoder(spec)}:{sibling}"
    found = identify(named)
    return Contender(method, found.name, named, found)


def _without_encoder(spec: str) -> str:
    """A model without the name of an encoder; a published checkpoint has only one."""
    path, chosen = find_model(spec)
    return spec.removesuffix(f":{chosen}") if chosen and path.is_dir() else spec


def _single_pass_beside(identity: ModelIdentity) -> str | None:
    """Name of the model's single-pass encoder, of the same kind where there are several."""
    encoders = identity.config.encoders
    singles = [name for name, each in encoders.items() if not each.iterative]
    kind = encoders[identity.encoder].kind
    alike = [name for name in singles if encoders[name].kind == kind]
    return next(iter([*alike, *singles]), None)


def _unsuited(method: Method, identities: Sequence[ModelIdentity]) -> str:
    names = ", ".join(identity.name for identity in identities)
    has = "has" if len(identities) == 1 else "have"
    what = {"refining": "encoder that refines", "single-pass": "single-pass encoder"}
    return (
        f"method {method}: {names} {has} no {what[method.kind.needs]}; name a model that has one "
        "in --models, such as faces64, or leave the method out"
    )


def _check_same_crops(identities: Sequence[ModelIdentity]) -> None:
    first = identities[0]
    for other in identities[1:]:
        for field in ("image_size", "framing_scale", "framing_shift", "align"):
            one, two = getattr(first.config, field), getattr(other.config, field)
            if one != two:
                raise SpecError(
                    f"{first.name} and {other.name} do not see the same pictures: {field} is "
                    f"{one} and {two}; evaluate them into two folders"
                )
