"""Settings of an inversion as they come out of the defaults, for tests that need no model."""

from __future__ import annotations

from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.planning.defaults import resolve


def resolved(**options: object) -> ResolvedSettings:
    """Resolve settings for the embedded model, or for one that options of ``resolve`` describe.

    Args:
        options: of :class:`InversionSettings` and of :func:`resolve`.
    """
    model = {
        "model": "faces64:restyle-psp",
        "model_fingerprint": "a" * 64,
        "aligned_domain": True,
        "domain": "",
        "iterative": True,
        "dtype": "fp32",
        "earlier": None,
    }
    model |= {name: options.pop(name) for name in list(options) if name in model}
    return resolve(InversionSettings(**options), **model)  # type: ignore[arg-type]
