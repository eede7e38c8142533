"""Latents as a dataset for torch's DataLoader, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from restyle.pipeline.results.forms.selected_rows import selected_rows
from restyle.pipeline.results.snapshot import read_snapshot


class LatentDataset(Dataset[dict[str, Any]]):
    """The latents of an output, for ``torch.utils.data.DataLoader``.

    ::

        loader = DataLoader(LatentDataset("OUT"), batch_size=64, shuffle=True, num_workers=2)

    An item has ``latent``, a tensor [n_styles, style_dim] float32, and the chosen columns. A batch
    is read with few requests (``__getitems__``), which the loader does by itself.

    Args:
        out: the output, a path or any fsspec URI.
        columns: of the items besides ``latent``.
        where: SQL condition over all columns but the latent.

    Raises:
        SpecError: there is no such output or column, or ``where`` is not a condition.
        FatalError: a file is missing or damaged.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        columns: Sequence[str] = ("source", "face"),
        where: str | None = None,
    ) -> None:
        self._rows = selected_rows(read_snapshot(os.fspath(out)), columns, where)
        self._table = self._rows.table()

    def __len__(self) -> int:
        """Number of faces."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One face; negative indices count from the end."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several faces, in the given order.

        Raises:
            IndexError: there is no such face.
        """
        asked = [index + len(self) if index < 0 else index for index in indices]
        latents = torch.from_numpy(self._rows.read(asked))
        has_columns = bool(asked) and self._table.num_columns > 0
        values = self._table.take(asked).to_pylist() if has_columns else [{} for _ in asked]
        return [{"latent": latent} | row for latent, row in zip(latents, values, strict=True)]
