"""The disk is full at one write of a command, for a while or until room is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.full_disk import COMMANDS, World, check, make_world, writes_of

TRIED = {"edit": 1}
"""Writes of each command that are tried, 4 and the last few unless said here.

``python -m tests.soak.full_disk`` tries every one.
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> World:
    return make_world(tmp_path_factory.mktemp("world"), tiny_model)


@pytest.mark.parametrize("stays", [False, True], ids=["once", "until room is made"])
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_after_making_room_the_same_command_ends_clean(
    world: World, name: str, stays: bool
) -> None:
    command = COMMANDS[name]
    writes = writes_of(world, command)
    assert writes > 20
    # Where the last ones fail, all units are committed already, and run.json is not written.
    tried = range(2 + stays, writes + 1, writes // TRIED.get(name, 4))
    for fails in {*tried, writes - 12, writes - 4}:
        assert check(world, command, fails, stays=stays) == [], f"write {fails} of {writes}"
