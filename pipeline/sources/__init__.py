"""Inputs: what ``INPUT`` names becomes a stream of images with stable identities, and bytes.

The files are found by ``local_files`` and ``remote_files``. What is in them is told by
``tar_headers`` and ``tar_shard``, ``parquet_columns``, ``text_lists`` and ``list_entries``;
``catalog`` puts these together, and ``reader`` reads what was found.
"""

from restyle.pipeline.sources.catalog import BATCH, iter_images
from restyle.pipeline.sources.output_names import OUTPUT_NAMES
from restyle.pipeline.sources.reader import MAX_FILE_BYTES, SourceReader
from restyle.pipeline.sources.source_image import SourceImage, image_id

__all__ = [
    "BATCH",
    "MAX_FILE_BYTES",
    "OUTPUT_NAMES",
    "SourceImage",
    "SourceReader",
    "image_id",
    "iter_images",
]
