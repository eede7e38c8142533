"""What is told of errors of the system and of libraries."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pytest

from restyle.core.errors import first_line_of, reason_of


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/there"), "No space left on device"),
        (OSError("the server hung up"), "the server hung up"),
        (pa.ArrowInvalid("not\n  a\tParquet file\n"), "not a Parquet file"),
        (EOFError(), "EOFError"),
        (ValueError("  \n"), "ValueError"),
    ],
)
def test_a_reason_is_one_line_and_never_empty(error: Exception, told: str) -> None:
    assert reason_of(error) == told


def test_a_missing_file_has_the_words_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "none").read_bytes()
    assert reason_of(caught.value) == "No such file or directory"


def test_the_first_line_leaves_out_details() -> None:
    assert first_line_of(ValueError("wrong\nin detail")) == "wrong"
    assert first_line_of(ValueError()) == "ValueError"
