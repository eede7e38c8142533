"""Inputs: list what ``INPUT`` names as images with stable identities, and read their bytes.

``local_files`` and ``remote_files`` list files. ``contents`` decides what each file holds and skips
files that are no inputs; ``formats`` reads shards and lists, and ``lists`` parses the entries of
lists. ``catalog`` combines these into the stream, and ``reader`` reads the bytes of each input.
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
