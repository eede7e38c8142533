"""Identify the generator for which a direction or latent was made."""

from __future__ import annotations

import hashlib

from restyle.core.networks.generator import Generator

_MAPPING = "style."


def synthesis_fingerprint(generator: Generator) -> str:
    """Compute the fingerprint of a generator's synthesis network.

    The mapping network is excluded: it determines which w are sampled, not how they are rendered,
    so a direction remains valid if only the mapping network was trained further.

    Returns:
        SHA-256 in hex of the names, shapes and float32 values of all weights of the synthesis
            network; independent of the stored precision, if that represents the values exactly.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(generator.state_dict().items()):
        if not key.startswith(_MAPPING):
            digest.update(f"{key} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()
