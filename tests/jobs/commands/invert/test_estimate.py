"""``restyle estimate`` and ``restyle invert --plan-only`` as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.command import ROOT, heavy_imports
from tests.warm_command import restyle

FACES = ("smile.jpg", "terrace.jpg", "blue hat.jpg", "garden.jpg", "evening.jpg", "table.jpg")


@pytest.fixture
def photographs(tmp_path: Path, photos: Path) -> Path:
    """Eight photographs, all in one unit; two have no face."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in FACES:
        shutil.copy(photos / name, folder)
    for index in range(2):
        shutil.copy(photos / "unusable" / "landscape.jpg", folder / f"{index}.jpg")
    return folder


@pytest.mark.parametrize("command", ["estimate", "invert"])
def test_help_imports_neither_torch_nor_ray(command: str) -> None:
    run, imported = heavy_imports(command, "--help")
    assert (run.returncode, imported) == (0, set())
    assert "--prices" in run.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["estimate", "/no/such"], "/no/such does not exist; correct INPUT"),
        (["estimate"], "Missing argument 'INPUT' (or give --spec)"),
        (["estimate", "IN", "--model", "nonsense"], "nonsense"),
        (["estimate", "IN", "--counts", "1,x"], "--counts '1,x' is no list of numbers"),
        (["estimate", "IN", "--counts", "0"], "--counts '0' is no list of numbers"),
        (["estimate", "IN", "--counts", "1" * 5000], "is no list of numbers from 1 to 999,999"),
        (["estimate", "IN", "--counts", "1," + "1" * 400], "is no list of numbers"),
        (["estimate", "IN", "--counts", "1000000"], "--counts '1000000' is no list of numbers"),
        (["estimate", "IN", "--sample", "0"], "--sample"),
        (["estimate", "IN", "--prices", "/no/such.toml"], "/no/such.toml cannot be read"),
        (["estimate", "IN", "--scratch", "/no/such"], "--scratch /no/such"),
        (["estimate", "IN", "--address", "127.0.0.1:1", "--device", "cpu"], "needs --scratch"),
        (["estimate", "--spec", "/no/such.toml"], "/no/such.toml does not exist"),
        (["invert", "IN", "--out", "OUT", "--prices", "x.toml"], "--prices is of --plan-only"),
        (
            ["invert", "IN", "--out", "OUT", "--plan-only", "--prices", "/no/such.toml"],
            "/no/such.toml cannot be read",
        ),
    ],
)
def test_a_fault_of_the_user_ends_in_one_line(
    words: list[str], said: str, photographs: Path, tmp_path: Path
) -> None:
    places = {"IN": str(photographs), "OUT": str(tmp_path / "out")}
    run = restyle(*(places.get(word, word) for word in words))
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = [each for each in run.stderr.splitlines() if each.startswith("error: ")]
    assert said in line
    assert "Traceback" not in run.stderr


def test_an_estimate_in_both_forms_and_the_run_that_follows(
    photographs: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text(
        f'[input]\nsource = "{photographs}"\n[output]\nout = "{tmp_path}/out"\n'
        'image_format = "jpeg"\n[inversion]\nsteps = 1\nmetrics = ["l2"]\n'
        '[workers]\ndevice = "cpu"\n'
    )
    prices = ROOT / "examples" / "prices.toml"
    run = restyle("estimate", "--spec", spec, "--sample", 8, "--prices", prices, "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert not (tmp_path / "out").exists()
    assert found["inputs"] == {"value": 8, "low": 8, "high": 8}
    assert found["sample"]["inputs"] == 8
    assert len(found["sample"]["megapixels"]) == 3
    assert found["rejects"] == {"no_face": {"value": 2, "low": 2, "high": 2}}
    assert found["faces"]["value"] == 6
    assert found["here"]["bound"] in ("alignment", "inversion")
    assert sum(found["phases"].values()) > found["phases"]["compiling"]
    assert [fleet["name"] for fleet in found["machines"]] == ["1 cpu-16", "4 cpu-16", "16 cpu-16"]

    planned = restyle("invert", "--spec", spec, "--plan-only")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("8 inputs, ")
    assert "this machine" in planned.stdout
    assert "rejected, no_face" in planned.stdout
    assert "not known: money: there are no prices" in planned.stdout

    real = restyle("invert", "--spec", spec)
    assert real.returncode == 0, real.stderr
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["counts"]
    assert (counts["images"], counts["faces"]) == (8, 6)
    assert counts["rejects"] == {"no_face": 2}
    for dataset in ("latents", "steps", "reconstructions", "rejects"):
        size = sum(file.stat().st_size for file in (tmp_path / "out" / dataset).iterdir())
        assert abs(found["bytes"][dataset]["value"] / size - 1) < 0.2, dataset
