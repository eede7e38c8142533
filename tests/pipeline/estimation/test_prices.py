"""Files of prices: the example, and faults that end in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.pipeline.estimation.prices import Machine, read_prices

ROOT = Path(__file__).resolve().parents[3]


def test_the_example_is_read() -> None:
    found = read_prices(ROOT / "examples" / "prices.toml")
    assert found.currency == "USD"
    assert found.machines["gpu-1"] == Machine(price_per_hour=1.01, cores=4, gpus=1)
    assert found.machines["cpu-16"].gpus == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machines = 3", "machines"),
        ("", "machines is missing"),
        ("[machines]", "machines"),
        ("[machines.a]\ncores = 4", "machines.a.price_per_hour is missing"),
        ("[machines.a]\nprice_per_hour = -1.0\ncores = 4", "machines.a.price_per_hour"),
        ("[machines.a]\nprice_per_hour = nan\ncores = 4", "machines.a.price_per_hour"),
        ("[machines.a]\nprice_per_hour = 1e308\ncores = 4", "machines.a.price_per_hour"),
        ("[machines.a]\nprice_per_hour = 1\ncores = 1000001", "machines.a.cores"),
        ("[machines.a]\nprice_per_hour = 1\ncores = 4\ngpus = 1000001", "machines.a.gpus"),
        ("[machines.a]\nprice_per_hour = 1\ncores = 0", "machines.a.cores"),
        ("[machines.a]\nprice_per_hour = 1\ncores = 4\ngpu = 1", "machines.a.gpu"),
        ("[machines.a", "is no TOML"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SpecError) as fault:
        read_prices(path)
    assert said in str(fault.value)
    assert str(path) in str(fault.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_prices(tmp_path / "none.toml")
