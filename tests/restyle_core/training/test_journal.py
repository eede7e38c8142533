"""The folder of a run: links in it."""

from pathlib import Path

import pytest
import torch

from restyle.core.errors import SpecError
from restyle.core.training.journal import Journal
from restyle.core.training.run_files import append, cut, replacing

LINKS = ["losses.jsonl", "spec.json", "checkpoint.pt", "samples/00000007.png", "validation.jsonl"]


@pytest.mark.parametrize("is_hard", [False, True])
@pytest.mark.parametrize("name", LINKS)
def test_what_a_link_leads_to_stays(tmp_path: Path, name: str, is_hard: bool) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    (folder / "samples").mkdir(parents=True)
    if is_hard:
        (folder / name).hardlink_to(victim)
    else:
        (folder / name).symlink_to(victim)
    if name == "checkpoint.pt":
        journal = Journal(tmp_path / "other", {})
        journal.folder = folder
    else:
        journal = Journal(folder, {})
        assert journal.load() is None
    journal.add({"l2": torch.tensor(1.0)})
    journal.write_losses(64, 64)
    journal.write_grid(torch.zeros(1, 3, 4, 4), 1, 7)
    journal.save({"step": 1})
    with replacing(folder / "validation.jsonl") as file:
        file.write(b"{}")
    journal.close()
    assert victim.read_text() == "precious"
    assert (folder / name).is_file()
    assert not (folder / name).is_symlink()
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["samples", "tensorboard"])
def test_a_linked_folder_is_refused(tmp_path: Path, name: str) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.mkdir()
    folder.mkdir()
    (folder / name).symlink_to(victim)
    with pytest.raises(SpecError, match=f"{name} is no folder of the run's own"):
        Journal(folder, {}).events(1)
    assert not list(victim.iterdir())


def test_logs_are_cut_and_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cut(log, 0)
    assert not log.exists()
    append(log, "one")
    append(log, "two")
    cut(log, 4)
    assert log.read_text() == "one\n"
    cut(log, 100)
    assert log.read_text() == "one\n"
    (tmp_path / "link").symlink_to(log)
    with pytest.raises(SpecError, match="is a link"):
        append(tmp_path / "link", "three")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    cut(tmp_path / "dangling", 5)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(SpecError, match="is no file"):
        cut(tmp_path / "folder", 5)
    assert log.read_text() == "one\n"
