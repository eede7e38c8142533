"""An output whose files are gone is not called done, and every command says what mends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restyle.core.errors import DamagedError, FatalError
from restyle.pipeline.accounting.repair import repair
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.results.query import query
from tests.pipeline.in_process import in_process
from tests.warm_command import restyle


@pytest.fixture(scope="module")
def request_of(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Callable[[Path], Request]:
    folder = tmp_path_factory.mktemp("lost") / "images"
    folder.mkdir()
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "none.png").write_bytes(b"")
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=(), dtype="fp32"
    )
    return lambda out: Request(str(folder), str(out), settings, device="cpu")


@pytest.fixture(scope="module")
def made(request_of: Callable[[Path], Request], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    invert_images(request_of(out), engine=in_process)
    return out


def first(out: Path, dataset: str) -> Path:
    return min((out / dataset).iterdir())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a file of latents is gone": lambda out: first(out, "latents").unlink(),
    "all reconstructions are": lambda out: shutil.rmtree(out / "reconstructions"),
    "the rejects are": lambda out: first(out, "rejects").unlink(),
    "a copy was cut short": lambda out: first(out, "latents").write_bytes(b"PAR1"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_no_run_claims_success_until_it_is_repaired(
    name: str, made: Path, request_of: Callable[[Path], Request], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(made, tmp_path / "out"))
    DAMAGES[name](out)
    said = r"(is missing|has another size).*`restyle repair .* says what would be run again"
    with pytest.raises(DamagedError, match=said):
        invert_images(request_of(out), engine=in_process)
    assert "restyle repair" in read_status(str(out)).damage
    assert repair(str(out), apply=True).done
    assert not read_status(str(out)).damage
    # What is lost is done again, and nothing else.
    most = 13 if name.startswith("all") else 12
    assert 0 < invert_images(request_of(out), engine=in_process).images <= most
    assert verify(str(out)).problems == []


def test_an_output_that_was_copied_whole_is_continued(
    made: Path, request_of: Callable[[Path], Request], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(made, tmp_path / "out"))
    assert invert_images(request_of(out), engine=in_process).images == 0
    assert read_status(str(out)).damage == ""


def test_what_reads_it_names_the_remedy(made: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made, tmp_path / "out"))
    first(out, "latents").unlink()
    with pytest.raises(FatalError, match=r"cannot answer: .* is missing; .*`restyle repair`"):
        query(str(out), "select count(latent[1]) from latents").read_all()
    verified, shown = restyle("verify", out), restyle("status", out)
    assert verified.returncode == 1
    assert "`restyle repair" in verified.stdout
    assert shown.returncode == 0
    assert "damaged: " in shown.stdout
    assert "restyle repair" in shown.stdout
