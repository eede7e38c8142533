"""Latents as a memory map of the folder that ``restyle export --to npy`` writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.pipeline.results.latent_pages import FloatArray

if TYPE_CHECKING:
    import pandas as pd

LATENTS_FILE, ROWS_FILE = "latents.npy", "rows.parquet"


def map_latents(folder: str | os.PathLike[str]) -> tuple[pd.DataFrame, FloatArray]:
    """Open an export to ``npy`` without reading its latents, which the system pages in.

    Args:
        folder: what ``restyle export OUT --to npy --out FOLDER`` wrote; local.

    Returns:
        A table of N rows, and a read-only map [N, n_styles, style_dim] float32 in the same order.

    Raises:
        SpecError: the folder is no such export.
        FatalError: its files are damaged or do not belong together.
    """
    path = Path(folder)
    try:
        latents: FloatArray = np.load(path / LATENTS_FILE, mmap_mode="r", allow_pickle=False)
        rows = pq.read_table(path / ROWS_FILE, use_threads=False).to_pandas(use_threads=False)
    except FileNotFoundError as error:
        raise SpecError(
            f"{path} holds no latents to map; write them with `restyle export OUT --to npy`"
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FatalError(f"cannot map {path}: {reason_of(error)}; export it again") from error
    if latents.dtype != np.float32 or latents.ndim != 3 or len(latents) != len(rows):
        raise FatalError(f"{path} holds files that do not belong together; export it again")
    return rows, latents
