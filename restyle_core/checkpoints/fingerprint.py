"""Which generator something was made for."""

from __future__ import annotations

import hashlib

from restyle.core.networks.generator import Generator

_MAPPING = "style."


def synthesis_fingerprint(generator: Generator) -> str:
    """Identify what turns w into an image.

    The mapping network is left out: it decides which w are drawn, not what they look like, so a
    direction stays what it is when only the mapping was trained on.

    Returns:
        SHA-256 in hex of the names, shapes and float32 values of all weights of the synthesis
        network; the same whatever precision they are stored in, if that held them exactly.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(generator.state_dict().items()):
        if not key.startswith(_MAPPING):
            digest.update(f"{key} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()
