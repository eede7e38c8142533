"""TensorBoard event files: scalars and pictures of a training run.

tensorboardX writes the format without TensorBoard's web server. Its record writer is used instead
of ``SummaryWriter``, which keeps flushed records in a queue that a kill loses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_RGB = 3


class EventFile:
    """One event file; every process that continues a run writes a new one.

    Args:
        folder: log directory of TensorBoard; created when missing.
        step: the first step to write. TensorBoard discards what earlier files hold from this step
            on, because a killed run repeats those steps.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Imported late, because tensorboardX imports all its optional writers.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard orders files by name; the default names differ only by seconds.
        self._file = EventsWriter(str(folder / "events"), f".{time.time_ns():020d}")
        self._write(step, session_log=SessionLog(status=SessionLog.START))

    def write_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add scalars by name; a slash in a name separates its group."""
        from tensorboardX.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, summary=Summary(value=found))

    def write_image(self, name: str, png: bytes, size: tuple[int, int], step: int) -> None:
        """Add a picture.

        Args:
            name: of the series.
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
