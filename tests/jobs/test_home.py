"""``~`` is the user's home wherever a path begins with it, and nowhere else."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from restyle.core.training.spec import existing
from restyle.jobs.home import expand_variables, expanded
from restyle.jobs.spec.file import read_spec
from tests.warm_command import restyle


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--out=~/x", "--out={home}/x"),
        ("~/photos", "{home}/photos"),
        ("~", "{home}"),
        ("--spec=~/a b/job.toml", "--spec={home}/a b/job.toml"),
        ("~/model.pt:faces", "{home}/model.pt:faces"),
        # Not at the beginning, of nobody, or no path.
        ("./~/x", "./~/x"),
        ("a~/x", "a~/x"),
        ("~nobody-is-called-so/x", "~nobody-is-called-so/x"),
        ("s3://bucket/~/x", "s3://bucket/~/x"),
        ("~$letter.docx", "~$letter.docx"),
        ("--where=lpips > 0", "--where=lpips > 0"),
    ],
)
def test_words(word: str, meant: str, home: Path) -> None:
    assert expanded([word]) == [meant.format(home=home)]


def test_another_user_s_home() -> None:
    root = pwd.getpwuid(0)
    assert expanded([f"~{root.pw_name}/x"]) == [f"{root.pw_dir}/x"]


def test_variables(home: Path) -> None:
    given = {"RESTYLE_LANDMARKS": "~/p.dat", "RESTYLE_RETRIES": "6:1", "OTHER": "~/x"}
    expand_variables(given)
    assert given == {
        "RESTYLE_LANDMARKS": f"{home}/p.dat",
        "RESTYLE_RETRIES": "6:1",
        "OTHER": "~/x",
    }


def test_specifications(home: Path) -> None:
    job = home / "folder" / "job.toml"
    job.parent.mkdir()
    job.write_text(
        '[input]\nsource = "~/photos"\n[output]\nout = "~/out"\n[model]\nname = "~/m.pt"\n'
    )
    spec = read_spec(job, {}, {})
    found = (spec.input.source, spec.output.out, spec.model.name)
    assert found == (f"{home}/photos", f"{home}/out", f"{home}/m.pt")
    job.write_text('[input]\nsource = "~nobody-is-called-so/a"\n[output]\nout = "out"\n')
    assert read_spec(job, {}, {}).input.source == f"{home}/folder/~nobody-is-called-so/a"
    (home / "crops").mkdir()
    assert existing(job.parent, "~/crops") == home / "crops"


def test_the_command(home: Path, photos: Path) -> None:
    planned = restyle("plan", photos / "album", "--out=~/x", env={"HOME": str(home)})
    assert planned.returncode == 0, planned.stderr
    assert list((home / "x" / "_ledger").glob("plan-*.parquet"))
    shown = restyle("status", "~/x", env={"HOME": str(home)})
    assert f"{home}/x is planned" in shown.stderr
    init = restyle("spec", "init", "~/job.toml", env={"HOME": str(home)})
    assert init.returncode == 0
    assert (home / "job.toml").is_file()
