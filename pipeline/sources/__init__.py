"""Inputs: what ``INPUT`` names becomes a stream of images with stable identities, and bytes.

The files are found by ``local_files`` and ``remote_files``. ``contents`` tells what is in
them, and what is no input; ``formats`` reads shards and lists, ``lists`` what stands in lists.
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
