"""What is told of errors of the system and of libraries."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from restyle.core.errors import fault_of, first_line_of, reason_of


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


class Machine(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cores: list[int]
    name: str = Field(default="any", max_length=3)

    @model_validator(mode="after")
    def _is_no_machine(self) -> Machine:
        if not self.cores:
            raise ValueError("a machine has a core")
        return self


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "cores is missing"),
        ({"cores": [1], "core": 1}, "core is not known"),
        ({"cores": [1, "x"]}, "cores.1: Input should be a valid integer"),
        ({"cores": [1], "name": "more"}, "name: String should have at most 3 characters"),
        ({"cores": []}, "the file: a machine has a core"),
    ],
)
def test_a_fault_says_where_and_what(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Machine.model_validate(values)
    (fault,) = caught.value.errors()
    assert fault_of(fault, "the file").startswith(told)
