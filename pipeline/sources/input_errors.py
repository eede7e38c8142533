"""Classify read errors: whether they are caused by the input or by the job's own store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from restyle.core.errors import FatalError, RejectError, RejectReason, TransientError
from restyle.pipeline.sources.source_image import SourceImage

# For S3, temporary failures are distinguished from refusals, and list entries cannot choose the
# host.
_TOLD_APART = b"s3://"


@contextlib.contextmanager
def input_errors(image: SourceImage, *, is_own: bool) -> Iterator[None]:
    """Convert errors from reading an input into rejects of that input, unless the job is at fault.

    Args:
        image: the input.
        is_own: whether the input lies on the store that the user named as ``INPUT``, whose failures
            affect all inputs. Otherwise a list names the input, and a failure affects only that
            entry.

    Raises:
        OSError: this input cannot be read; others may be readable.
        RejectError: the input cannot be an image, or exceeds the memory limit.
        SpecError, FatalError: the user's own store refuses access.
        TransientError: a store still fails after all retries.
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
