"""One face of an output, as a person names it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from pipeline.face_rows import FaceRows, Key, current_faces, read_faces
from restyle_core.errors import SpecError

_SHOWN = 5


def find_face(out: str, text: str) -> FaceRows:
    """The row of the one face that is meant; see :func:`find_key`."""
    (rows,) = read_faces(out, {find_key(out, text)}, 1)
    return rows


def find_key(out: str, text: str) -> Key:
    """What names the one face that is meant. No latent is read.

    Args:
        out: the output, a path or any fsspec URI.
        text: the ``source``, its last part, or a pattern of either with ``*`` and ``?``; or the
            ``image_id``. With ``#1`` behind it, the second face of that photograph; the first
            (the largest) otherwise.

    Raises:
        SpecError: there is no such face, or there are several; the message names some.
        FatalError: a file is damaged.
    """
    faces = list(current_faces(out))
    named, mark, number = text.rpartition("#")
    found = _best(faces, text, 0)
    # A name may itself end like the number of a face.
    if not found and mark and re.fullmatch(r"\d{1,4}", number):
        found = _best(faces, named, int(number))
    if not found:
        raise SpecError(f"{out} has no face {text!r}; give a photograph's name, or * and its end")
    if len(found) > 1:
        shown = ", ".join(sorted(source for _, source in found)[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise SpecError(f"{text!r} may be any of {shown}{more}; name one")
    return found[0][0]


def _best(faces: Sequence[tuple[Key, str]], name: str, number: int) -> list[tuple[Key, str]]:
    """The faces of this number whose photographs match best: by their whole names, if any does."""
    ranked = [(_rank(name, key, source), (key, source)) for key, source in faces]
    ranked = [(rank, face) for rank, face in ranked if rank and face[0][2] == number]
    best = min((rank for rank, _ in ranked), default=0)
    return [face for rank, face in ranked if rank == best]


def _rank(name: str, key: Key, source: str) -> int:
    last = re.split(r"/|::", source)[-1]
    if name in (key[0], source):
        return 1
    if name == last:
        return 2
    return 3 if any(fnmatch.fnmatchcase(each, name) for each in (source, last)) else 0
