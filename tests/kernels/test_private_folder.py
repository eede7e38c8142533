"""Only what a killed process of this project and user left is removed, whatever its name is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from restyle.kernels.private_folder import MARKER, PrivateFolder, remove_abandoned

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "restyle-"

MAKER = """
import os, sys
from restyle.kernels.private_folder import PrivateFolder
folder = PrivateFolder(sys.argv[1], "restyle-")
(folder.path / "session").mkdir()
print(folder.path, flush=True)
os.read(0, 1)
"""


def maker(parent: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(parent)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def abandoned(parent: Path) -> Path:
    """A folder whose process was killed."""
    with maker(parent) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.kill()
    assert (folder / "session").is_dir()
    return folder


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    folders = [abandoned(tmp_path), abandoned(tmp_path)]
    elsewhere = tmp_path / "keep"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (folders[0] / "link").symlink_to(elsewhere)
    remove_abandoned(tmp_path, PREFIX)
    assert list(tmp_path.iterdir()) == [elsewhere]
    assert (elsewhere / "file").exists()


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    mine = PrivateFolder(tmp_path, PREFIX)
    with maker(tmp_path) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        remove_abandoned(tmp_path, PREFIX)
        assert sorted(tmp_path.iterdir()) == sorted([mine.path, theirs])
        process.kill()
    mine.remove()
    assert list(tmp_path.iterdir()) == [theirs]


def test_only_its_user_may_enter(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path, PREFIX)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / MARKER).stat().st_mode & 0o777 == 0o600
    folder.remove()


def plain(folder: Path, _: Path) -> None:
    (folder / "results.csv").touch()


def empty_marker(folder: Path, _: Path) -> None:
    (folder / MARKER).touch()


def marker_of_another(folder: Path, other: Path) -> None:
    shutil.copy(other / MARKER, folder / MARKER)


def marker_with_its_name(folder: Path, other: Path) -> None:
    told = json.loads((other / MARKER).read_bytes())
    (folder / MARKER).write_text(json.dumps({**told, "name": folder.name}))


def linked_marker(folder: Path, other: Path) -> None:
    (folder / MARKER).symlink_to(other / MARKER)


def folder_as_marker(folder: Path, _: Path) -> None:
    (folder / MARKER).mkdir()


def pipe_as_marker(folder: Path, _: Path) -> None:
    os.mkfifo(folder / MARKER)


@pytest.mark.parametrize(
    "fill",
    [
        plain,
        empty_marker,
        marker_of_another,
        marker_with_its_name,
        linked_marker,
        folder_as_marker,
        pipe_as_marker,
    ],
)
@pytest.mark.parametrize("name", ["restyle-20261127-results", "restyle-4194305-abc", "restyle-"])
def test_a_users_folder_stays(
    name: str, fill: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "tmp" / name
    folder.mkdir(parents=True)
    fill(folder, abandoned(tmp_path))
    remove_abandoned(tmp_path / "tmp", PREFIX)
    assert folder.is_dir()
    assert list(folder.iterdir())


def test_a_copy_a_renamed_folder_and_a_link_stay(tmp_path: Path) -> None:
    copied, renamed, linked = (abandoned(tmp_path) for _ in range(3))
    copy, new_name = tmp_path / "restyle-copy", tmp_path / "restyle-logs"
    shutil.copytree(copied, copy)
    renamed.rename(new_name)
    target = tmp_path / "elsewhere"
    linked.rename(target)
    linked.symlink_to(target)
    remove_abandoned(tmp_path, PREFIX)
    assert sorted(tmp_path.iterdir()) == sorted([copy, new_name, target, linked])
    assert (target / "session").is_dir()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_stays(mode: int, tmp_path: Path) -> None:
    folder = abandoned(tmp_path)
    folder.chmod(mode)
    remove_abandoned(tmp_path, PREFIX)
    assert folder.is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_stays(tmp_path: Path) -> None:
    folder, marker = abandoned(tmp_path), abandoned(tmp_path)
    os.chown(folder, 12345, 12345)
    os.chown(marker / MARKER, 12345, 12345)
    remove_abandoned(tmp_path, PREFIX)
    assert sorted(tmp_path.iterdir()) == sorted([folder, marker])
