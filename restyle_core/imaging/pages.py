"""Choice of the photograph in a file of several pictures."""

from __future__ import annotations

from PIL import Image

_FIRST_FRAME = frozenset({"HEIF", "MPO", "PSD"})
"""Formats that hold several pictures of one scene; the first is the photograph itself."""

_MOST_PAGES = 32
"""TIFF files with more pages than this are taken to hold several photographs."""

_NEW_SUBFILE, _SUBFILE = 254, 255
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2

# Tolerance in pixels for the aspect ratio of reduced copies.
_ROUNDING = 1.0


def choose_frame(image: Image.Image) -> int:
    """Seek to the photograph of a file.

    In a TIFF, pages marked as reduced or as masks are ignored, and so are smaller pages of the same
    aspect ratio: thumbnails and pyramid levels.

    Args:
        image: a newly opened image, whose position changes.

    Returns:
        1, or the number of pictures if there is no single photograph.
    """
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1 or image.format in _FIRST_FRAME:
        return 1
    if image.format != "TIFF" or frames > _MOST_PAGES:
        return frames
    sizes = {}
    for page in range(frames):
        image.seek(page)
        if not _is_marked(image):
            sizes[page] = image.size
    # If all pages are marked, the first one is taken.
    largest = max(sizes, key=lambda page: sizes[page][0] * sizes[page][1], default=0)
    full = [page for page in sizes if not _is_copy(sizes[page], sizes[largest])]
    image.seek(largest)
    return max(len(full), 1)


def _is_marked(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    kind = tags.get(_NEW_SUBFILE, 0)
    return bool(int(kind) & (_REDUCED | _MASK)) or tags.get(_SUBFILE) == _OLD_REDUCED


def _is_copy(size: tuple[int, int], full: tuple[int, int]) -> bool:
    """Whether a page has the size of a reduced copy of another page."""
    if 2 * size[0] * size[1] > full[0] * full[1]:
        return False
    expected = size[0] * full[1] / full[0]
    return abs(expected - size[1]) <= max(_ROUNDING, full[1] / full[0])
