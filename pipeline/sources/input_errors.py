"""Whose fault it is that an input cannot be read: the one place where this is decided."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from restyle.core.errors import FatalError, RejectError, RejectReason, TransientError
from restyle.pipeline.sources.source_image import SourceImage

# The one kind of store whose failures of the moment are told from refusals, and whose host no
# entry of a list chooses.
_TOLD_APART = b"s3://"


@contextlib.contextmanager
def input_errors(image: SourceImage, *, is_own: bool) -> Iterator[None]:
    """Turn what reading an input raises into that input's reject, unless it is the job's fault.

    Args:
        image: the input.
        is_own: it lies on the store that the user named as ``INPUT``, whose failures concern all
            inputs; else a list names it, which may name anything.

    Raises:
        OSError: this input cannot be read, and others may be.
        RejectError: there is nothing in it that could be an image, or far too much.
        SpecError, FatalError: the user's own store refuses.
        TransientError: a store did not answer properly, however often it was asked.
    """
    try:
        yield
    except MemoryError as error:
        raise RejectError(
            RejectReason.TOO_LARGE, "reading it takes more memory than one input may"
        ) from error
    except TransientError as error:
        if is_own or image.uri.startswith(_TOLD_APART):
            raise
        raise OSError(str(error)) from error
    except FatalError as error:
        if is_own:
            raise
        raise OSError(str(error)) from error
