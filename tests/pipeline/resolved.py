"""Settings of an inversion as they come out of the defaults, for tests that need no model."""

from __future__ import annotations

from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.planning.defaults import ModelFacts, resolve


def resolved(**options: object) -> ResolvedSettings:
    """Resolve settings in float32 for a model of aligned faces, unless options say otherwise.

    Args:
        options: of :class:`InversionSettings` and of :func:`resolve`, and attributes of the model.
    """
    facts = {
        "name": "faces64:restyle-psp",
        "fingerprint": "a" * 64,
        "is_aligned": True,
        "domain": "",
        "iterative": True,
    }
    others: dict[str, object] = {"dtype": "fp32", "earlier": None}
    for group in (facts, others):
        group |= {name: options.pop(name) for name in group.keys() & options.keys()}
    model = ModelFacts(**facts)  # type: ignore[arg-type]
    return resolve(InversionSettings(**options), model, **others)  # type: ignore[arg-type]
