"""What errors of file systems become: which end a job, and what is told."""

from __future__ import annotations

import errno
import os

import pytest

from restyle.core.errors import FatalError, TransientError
from restyle.pipeline.storage.errors import explained, storage_errors

FATAL = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EFBIG,
)


@pytest.mark.parametrize("number", FATAL, ids=errno.errorcode.get)
def test_what_a_retry_cannot_help_ends_in_a_line_with_a_remedy(number: int) -> None:
    error = explained(OSError(number, os.strerror(number), "/out/x"), "cannot write", "/out/x")
    assert isinstance(error, FatalError)
    beginning, reason, remedy = str(error).replace("; ", ": ", 1).split(": ")
    assert beginning == "cannot write /out/x"
    assert reason
    assert remedy.split()[0] in {"free", "name", "give", "correct", "choose", "raise"}


@pytest.mark.parametrize("number", [errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ESTALE])
def test_what_may_pass_is_tried_again(number: int) -> None:
    told = os.strerror(number)
    with pytest.raises(TransientError, match=told), storage_errors("cannot read", "x"):
        raise OSError(number, told)


def test_a_store_that_refuses_names_the_credentials() -> None:
    error = explained(PermissionError("Forbidden"), "cannot list", "s3://bucket")
    assert isinstance(error, FatalError)
    assert "access denied (Forbidden); check the credentials" in str(error)


def test_what_is_not_there_and_what_is_told_already_stay_as_they_are() -> None:
    for told in (FileNotFoundError("x"), FatalError("told")):
        with pytest.raises(type(told)) as caught, storage_errors("cannot read", "x"):
            raise told
        assert caught.value is told
