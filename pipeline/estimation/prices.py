"""Prices of machines, from a small TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.core.errors import SpecError, fault_of
from restyle.core.files import read_toml

# Far beyond any machine and currency, and short enough for a table.
_MOST_PRICE = 1e9
_MOST_PARTS = 1_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Machine(_Strict):
    """A machine for hire.

    Attributes:
        price_per_hour: in the currency of the file.
        cores: number of cores.
        gpus: number of GPUs, each as fast as the one measured on.
    """

    price_per_hour: Annotated[float, Field(ge=0.0, le=_MOST_PRICE, allow_inf_nan=False)]
    cores: Annotated[int, Field(ge=1, le=_MOST_PARTS)]
    gpus: Annotated[int, Field(ge=0, le=_MOST_PARTS)] = 0


class Prices(_Strict):
    """A file of prices.

    Attributes:
        currency: that all prices are in.
        machines: by name.
    """

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    machines: Annotated[dict[str, Machine], Field(min_length=1)]


def read_prices(path: Path) -> Prices:
    """Read a file of prices.

    Raises:
        SpecError: the file cannot be read, is not TOML or has wrong values; the message names
            all faults.
    """
    values = read_toml(path, named=f"--prices {path}")
    try:
        return Prices.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(fault_of(each, "machines") for each in error.errors())
        raise SpecError(
            f"--prices {path}: {faults}; a machine is [machines.NAME] with "
            "price_per_hour, cores and gpus"
        ) from error
