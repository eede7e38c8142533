"""Files of several pictures: which one is the photograph."""

from __future__ import annotations

from PIL import Image

_FIRST_FRAME = frozenset({"HEIF", "MPO", "PSD"})
"""Formats that hold several pictures of one scene; the first is the photograph itself."""

_MOST_PAGES = 32
"""Pages of a TIFF that are looked at; a book of more holds more than one picture."""

_NEW_SUBFILE, _SUBFILE = 254, 255
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2

# Pages that show the same have the same aspect, up to the rounding of the smaller one.
_ROUNDING = 1.0


def choose_frame(image: Image.Image) -> int:
    """Go to the one picture of a file that is its photograph.

    Of a TIFF the pages that are marked as reduced or as masks do not count, nor do smaller pages
    of the same aspect: thumbnails, and the steps of a pyramid.

    Args:
        image: just opened; it stands at that picture afterwards.

    Returns:
        1; or how many pictures there are of which none is *the* photograph.
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
    # A thumbnail alone is better than nothing.
    largest = max(sizes, key=lambda page: sizes[page][0] * sizes[page][1], default=0)
    full = [page for page in sizes if not _is_copy(sizes[page], sizes[largest])]
    image.seek(largest)
    return max(len(full), 1)


def _is_marked(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    kind = tags.get(_NEW_SUBFILE, 0)
    return bool(int(kind) & (_REDUCED | _MASK)) or tags.get(_SUBFILE) == _OLD_REDUCED


def _is_copy(size: tuple[int, int], full: tuple[int, int]) -> bool:
    """Whether a page is as large as a reduced copy of another would be."""
    if 2 * size[0] * size[1] > full[0] * full[1]:
        return False
    expected = size[0] * full[1] / full[0]
    return abs(expected - size[1]) <= max(_ROUNDING, full[1] / full[0])
