"""Give listed inputs the landmarks of their faces, from a file that the user has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from restyle.core.errors import RejectError, RejectReason, SpecError, reason_of
from restyle.core.faces.anchors import Anchors
from restyle.core.shown_text import recorded, visible
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.source_format import Index
from restyle.pipeline.sources.landmarks.marked_faces import MarkedFaces
from restyle.pipeline.sources.landmarks.reader import KIND
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import Stores, open_ranged
from restyle.pipeline.sources.remote_files import full_uri
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.filesystem import absolute_path, local_path, shown_uri

MOST_FACES = 1000
"""Most faces of one photograph."""

# Where a key may begin: behind a folder, and behind the file that holds the input.
_BOUNDARY = re.compile("/|::")
_SHOWN = 80

IntArray = npt.NDArray[np.int64]


def read_landmarks(uri: str, *, allow_private_urls: bool = False) -> GivenLandmarks:
    """Read a file of landmarks into memory: about 100 bytes for each face.

    The file is parsed in a child process with limits, as shards are.

    Args:
        uri: a path or any fsspec URI.
        allow_private_urls: as in :class:`InputOptions`.

    Raises:
        SpecError: the file does not exist, is damaged, or has a layout that is not known.
        FatalError, TransientError: its store refuses or fails.
    """
    shown = shown_uri(uri)
    path = local_path(uri)
    if path is None:
        address = full_uri(uri).encode("utf-8", "surrogateescape")
    else:
        address = FILE + os.fsencode(absolute_path(path))
    file = SourceImage(image_id(address), recorded(shown), address, -1, "")
    stores = Stores(UrlPolicy(allow_private_urls, uri))
    process = ShardProcess()
    given = _Collected(shown)
    try:
        with open_ranged(file, stores) as opened:
            for piece in process.index(opened, Index(KIND, file, InputOptions())):
                if isinstance(piece, MarkedFaces):
                    given.add(piece)
    except FileNotFoundError as error:
        raise SpecError(f"--landmarks {shown} does not exist") from error
    except OSError as error:
        reason = reason_of(error)
        raise SpecError(f"--landmarks {shown} cannot be read: {reason}") from error
    except (RejectError, SpecError) as error:
        raise SpecError(f"--landmarks {shown}: {error}") from error
    finally:
        process.end()
    return given.sorted()


class _Collected:
    """The faces of a file while it is read."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._pieces: list[MarkedFaces] = []
        self._hashes: list[IntArray] = []
        self._faults: dict[int, str] = {}
        self._count = 0

    def add(self, faces: MarkedFaces) -> None:
        # The hashes of this process take a tenth of the memory of the keys.
        self._hashes.append(np.fromiter(map(hash, faces.keys), np.int64, len(faces.keys)))
        self._faults |= {self._count + index: text for index, text in faces.faults.items()}
        self._count += len(faces.keys)
        self._pieces.append(replace(faces, keys=faces.keys[:1], faults={}))

    def sorted(self) -> GivenLandmarks:
        if not self._count:
            raise SpecError(f"--landmarks {self._shown} holds no face")
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        given = GivenLandmarks(
            shown=self._shown,
            example=self._pieces[0].keys[0],
            unit=self._pieces[0].unit,
            hashes=hashes[order],
            anchors=np.concatenate([piece.anchors for piece in self._pieces])[order],
            numbers=np.concatenate([piece.numbers for piece in self._pieces])[order],
            faults={int(place[index]): text for index, text in self._faults.items()},
        )
        given.check_twins(one_each=any(piece.one_each for piece in self._pieces))
        return given


@dataclass(eq=False)
class GivenLandmarks:
    """The faces of a file of landmarks, by the hashes of their keys.

    Attributes:
        shown: the file, for messages.
        example: its first key.
        unit: what ``numbers`` count.
        hashes: [N] int64 hash of each face's key in this process, in rising order.
        anchors: [N] of :data:`restyle.core.faces.anchors.ANCHORS`.
        numbers: [N] int64, number of each face's row or entry in the file.
        faults: why faces cannot be used, by index.
        matched: number of inputs with landmarks.
        unmatched: the first input without any; empty if there is none.
    """

    shown: str
    example: str
    unit: str
    hashes: IntArray
    anchors: Anchors
    numbers: IntArray
    faults: dict[int, str]
    matched: int = 0
    unmatched: str = ""

    def __post_init__(self) -> None:
        # By the first face of a key: a hash of the input that took it.
        self._takers = np.zeros(len(self.hashes), np.int64)

    def check_twins(self, *, one_each: bool) -> None:
        """Check that no face is given twice.

        Args:
            one_each: whether a key stands for one entry.

        Raises:
            SpecError: a key has two entries, or two rows with the same points.
        """
        same = np.flatnonzero(self.hashes[1:] == self.hashes[:-1])
        for start in same if one_each else ():
            one, other = self.numbers[start], self.numbers[start + 1]
            if one != other:
                raise SpecError(
                    f"--landmarks {self.shown}: {self._two(one, other)} have the same name"
                )
        seen: dict[tuple[int, bytes], int] = {}
        for index in np.union1d(same, same + 1):
            face = int(self.hashes[index]), self.anchors[index].tobytes()
            if index not in self.faults and seen.setdefault(face, index) != index:
                two = self._two(self.numbers[seen[face]], self.numbers[index])
                raise SpecError(
                    f"--landmarks {self.shown}: {two} are the same face of the same photograph"
                )

    def _two(self, one: int, other: int) -> str:
        plural = "entries" if self.unit == "entry" else f"{self.unit}s"
        return f"{plural} {one:,} and {other:,}"

    def given(self, batches: Iterable[Sequence[SourceImage]]) -> Iterator[list[SourceImage]]:
        """Yield the inputs of a listing with their landmarks, or with what is wrong with them.

        A key is of the input whose ``source`` ends with it, at a slash; the longest key counts.

        Raises:
            SpecError: two inputs have the same key.
        """
        for batch in batches:
            keys = [_keys(image.source) for image in batch]
            hashes = np.array([hash(key) for each in keys for key in each], np.int64)
            starts = np.searchsorted(self.hashes, hashes).tolist()
            ends = np.searchsorted(self.hashes, hashes, "right").tolist()
            places = zip(chain.from_iterable(keys), starts, ends, strict=True)
            yield [
                self._marked(image, list(islice(places, len(each))))
                for image, each in zip(batch, keys, strict=True)
            ]

    def check_matched(self) -> None:
        """Check that the file is of these inputs.

        Raises:
            SpecError: no input has landmarks.
        """
        if not self.matched and self.unmatched:
            raise SpecError(
                f"--landmarks {self.shown} has no input's landmarks: its first key is "
                f"{visible(self.example)[:_SHOWN]!r}, the first input is {self.unmatched}; a key "
                "is the end of an input's address, from a slash on"
            )

    def _marked(self, image: SourceImage, places: Iterable[tuple[str, int, int]]) -> SourceImage:
        """Return an input with its landmarks.

        Args:
            image: the input.
            places: its possible keys, the longest first, with the first and the last face of each.
        """
        key, start, end = next((each for each in places if each[1] < each[2]), ("", 0, 0))
        if start == end:
            self.unmatched = self.unmatched or image.source
            return _faulty(image, RejectReason.NO_LANDMARKS, f"{self.shown} has no landmarks of it")
        self._take(image, key, start)
        wrong = next((each for each in range(start, end) if each in self.faults), None)
        if wrong is not None:
            message = f"{self.faults[wrong]} ({self.unit} {self.numbers[wrong]:,} of {self.shown})"
        elif end - start > MOST_FACES:
            message = f"{self.shown} has {end - start:,} faces of it, more than {MOST_FACES:,}"
        else:
            return replace(image, landmarks=self.anchors[start:end].tobytes())
        return _faulty(image, RejectReason.BAD_LANDMARKS, message)

    def _take(self, image: SourceImage, key: str, start: int) -> None:
        taker = hash(image.image_id) or 1
        if self._takers[start] not in (0, taker):
            raise SpecError(
                f"--landmarks {self.shown}: the key {visible(key)[:_SHOWN]!r} may be of "
                f"{image.source} or of an input before it; give keys that tell them apart, such "
                "as paths from INPUT on"
            )
        self._takers[start] = taker
        self.matched += 1


def _keys(source: str) -> list[str]:
    """Return the ends of an input's name that may be its key, the longest first."""
    starts = [0, *(match.end() for match in _BOUNDARY.finditer(source))]
    return [source[start:] for start in starts if start < len(source)]


def _faulty(image: SourceImage, reason: RejectReason, message: str) -> SourceImage:
    return image if image.fault else replace(image, fault=f"{reason}|{message}")
