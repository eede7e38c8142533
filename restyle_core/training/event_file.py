"""TensorBoard's event files: numbers and pictures over the course of a run.

Written by tensorboardX, which is the format without TensorBoard and its web server. Of it the
writer of records is used and not ``SummaryWriter``, whose ``flush`` leaves in a queue what a kill
then loses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_RGB = 3


class EventFile:
    """One file of events; every process that continues a run writes a new one.

    Args:
        folder: where TensorBoard is to look; made when missing.
        step: the first that will be written. What earlier files of the folder hold from there on
            is taken back, since a run that was killed does it again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Late, because it imports whatever it could write to.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # Viewers read files in the order of their names, which are in seconds otherwise.
        self._file = EventsWriter(str(folder / "events"), f".{time.time_ns():020d}")
        self._write(step, session_log=SessionLog(status=SessionLog.START))

    def write_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add numbers by name; one with a slash in it goes into a group."""
        from tensorboardX.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, summary=Summary(value=found))

    def write_image(self, name: str, png: bytes, size: tuple[int, int], step: int) -> None:
        """Add a picture.

        Args:
            name: of the series it belongs to.
            png: the encoded picture.
            size: its height and width.
            step: images seen so far.
        """
        from tensorboardX.proto.summary_pb2 import Summary

        image = Summary.Image(
            height=size[0], width=size[1], colorspace=_RGB, encoded_image_string=png
        )
        self._write(step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def close(self) -> None:
        """Close the file; nothing more can be written."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file.write_event(Event(wall_time=time.time(), step=step, **content))
        self._file.flush()
