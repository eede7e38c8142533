"""Registries: own things first, those of other packages by name, each fault in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.core.registry import Registry
from tests.other_package import install

Installed = Callable[..., "Registry[Thing]"]


@dataclass(frozen=True)
class Thing:
    name: str
    position: int = 100


OWN = (Thing("later", 2), Thing("first", 1))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.startswith("toy")]:
        monkeypatch.delitem(sys.modules, module)

    def build(source: str = "", /, **entries: str) -> Registry[Thing]:
        head = "from tests.restyle_core.test_registry import Thing\n"
        module = f"toy{len(list(tmp_path.iterdir()))}"
        values = {name: value.replace("toy:", f"{module}:") for name, value in entries.items()}
        install(tmp_path, module, head + source, {"restyle.toys": values})
        return Registry(Thing, "toy", lambda: OWN, "restyle.toys")

    return build


def test_own_things_come_first_and_others_by_name(installed: Installed) -> None:
    found = installed("A = Thing('alpha')\nZ = Thing('zeta')", zeta="toy:Z", alpha="toy:A")
    assert list(found) == ["first", "later", "alpha", "zeta"]
    assert len(found) == 4
    assert (found["zeta"], found["first"]) == (Thing("zeta"), Thing("first", 1))
    assert found["zeta"] is found["zeta"]
    assert "alpha" in found
    assert "beta" not in found
    with pytest.raises(KeyError):
        found["beta"]


def test_names_are_listed_without_importing_their_packages(installed: Installed) -> None:
    found = installed("raise AssertionError('imported')", alpha="toy:A")
    before = set(sys.modules)
    assert list(found) == ["first", "later", "alpha"]
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("source", "value", "words"),
    [
        ("import no_such_module_here", "toy:A", "ModuleNotFoundError: No module named"),
        ("1 / 0", "toy:A", "ZeroDivisionError"),
        ("def a(:", "toy:A", "SyntaxError"),
        ("", "toy:A", "AttributeError"),
        ("A = 'alpha'", "toy:A", "is a str, not a Thing"),
        ("A = Thing('beta')", "toy:A", "calls itself beta"),
        ("raise ValueError('two\\nlines\\x1b[31m')", "toy:A", r"ValueError: two lines\x1b[31m"),
    ],
)
def test_a_package_that_cannot_be_used_is_named_in_one_line(
    installed: Installed, source: str, value: str, words: str
) -> None:
    found = installed(source, alpha=value)
    with pytest.raises(SpecError) as caught:
        found["alpha"]
    message = str(caught.value)
    assert message.startswith("the toy alpha of toy0 cannot be used: ")
    assert words in message
    assert "mend or uninstall" in message
    assert "\n" not in message
    # It costs itself alone.
    assert found["first"] == Thing("first", 1)


def test_a_name_that_is_taken_is_nobody_s(installed: Installed) -> None:
    found = installed("A = Thing('first')", first="toy:A")
    with pytest.raises(SpecError, match="toy0 registers the toy first, which restyle has itself"):
        found["first"]
    assert found["later"] == Thing("later", 2)
    assert list(found) == ["first", "later"]
    assert len(found) == 2


def test_two_packages_with_one_name_are_both_named(installed: Installed) -> None:
    installed("A = Thing('alpha')", alpha="toy:A")
    found = installed("A = Thing('alpha')", alpha="toy:A")
    with pytest.raises(SpecError, match=r"toy0, toy\d registers the toy alpha; uninstall"):
        found["alpha"]
