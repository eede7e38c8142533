"""The marker of a compaction, which names the files that it is about to write."""

from __future__ import annotations

import re
from collections.abc import Collection

from restyle.core.errors import DamagedError
from restyle.core.files import parse_json
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import Storage

MARKER = f"{ledger.FOLDER}/compacting.json"

_PACK = r"part-pack-[0-9a-f]{16}-\w{1,8}\.parquet"


def marked(storage: Storage, datasets: Collection[str]) -> list[str]:
    """Return the files that a killed compaction was about to write; empty without a marker.

    Args:
        storage: the output.
        datasets: names of the output's datasets.

    Raises:
        DamagedError: the marker cannot be parsed, or names a file that is not part of a pack.
    """
    try:
        names = parse_json(storage.read(MARKER))
    except FileNotFoundError:
        return []
    except ValueError:
        names = None
    # The caller deletes these files, so the marker may name nothing else.
    if isinstance(names, list) and all(_is_pack(name, datasets) for name in names):
        return [str(name) for name in names]
    raise DamagedError(
        f"{storage.shown(MARKER)} is damaged or names what is no file of a pack; "
        f"see `restyle repair {storage.uri}`"
    )


def _is_pack(name: object, datasets: Collection[str]) -> bool:
    dataset, _, file = str(name).partition("/")
    return dataset in datasets and re.fullmatch(_PACK, file) is not None
