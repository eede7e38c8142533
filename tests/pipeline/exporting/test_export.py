"""Every export, opened by its own library, holds what ``read_latents`` reads, bit for bit."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.exporting import hugging_face, web_dataset
from restyle.pipeline.exporting.export import FORMATS, export
from restyle.pipeline.exporting.target import whole_folder
from restyle.pipeline.forgetting.derived import read_derived
from restyle.pipeline.results.forms import extras
from restyle.pipeline.results.forms.memory_map import map_latents
from restyle.pipeline.sources.catalog import iter_images
from restyle.pipeline.sources.options import InputOptions
from tests.command import ROOT, start
from tests.pipeline.fabricated import HOSTILE, Made, fabricate, redo
from tests.s3_server import faulty_s3
from tests.warm_command import restyle

MADE = Made(
    faces=60, rejects=3, unit=16, shape=(6, 16), names=HOSTILE, reconstructions="none",
    save_steps="none",
)  # fmt: skip
Opened = tuple[list[dict[str, object]], np.ndarray]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with revised, rejected and packed inputs, with names of any kind."""
    folder = tmp_path_factory.mktemp("export") / "out"
    storage = fabricate(folder, MADE)
    compact(str(folder))
    redo(storage, MADE, 5, 2, rejected=False)
    redo(storage, MADE, 7, 2, rejected=True)
    return folder


def hf(folder: Path, cache: Path) -> Opened:
    import datasets

    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))
    columns = [name for name in rows.column_names if name != "latent"]
    return rows.select_columns(columns).to_list(), rows.with_format("numpy")[:]["latent"]


def in_process_of_its_own(code: str, *arguments: object) -> None:
    """Run code that imports lance, which warns of every later fork of the process."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def lance(folder: Path, cache: Path) -> Opened:
    in_process_of_its_own(
        """
import sys, lance, pyarrow.parquet as pq
pq.write_table(lance.dataset(sys.argv[1]).to_table(), sys.argv[2])
""",
        folder,
        cache,
    )
    return _of_table(pq.read_table(cache))


def delta(folder: Path, _cache: Path) -> Opened:
    import deltalake

    return _of_table(deltalake.DeltaTable(str(folder)).to_pyarrow_table())


def webdataset(folder: Path, _cache: Path) -> Opened:
    import webdataset as library

    shards = sorted(map(str, folder.glob("*.tar")))
    samples = list(library.WebDataset(shards, shardshuffle=False, empty_check=False).decode())
    for sample in samples:
        row = sample["json"]
        assert sample["__key__"] == f"{row['image_id']}-{row['revision']}-{row['face']}"
    return [each["json"] for each in samples], np.stack([each["npy"] for each in samples])


def npy(folder: Path, _cache: Path) -> Opened:
    rows, w = map_latents(folder)
    assert isinstance(w, np.memmap)
    assert np.array_equal(np.load(folder / "latents.npy"), w)
    return rows.to_dict("records"), w


def _of_table(table: object) -> Opened:
    latent = table["latent"].combine_chunks().flatten().to_numpy()
    return table.drop_columns(["latent"]).to_pylist(), latent


OPENERS: dict[str, Callable[[Path, Path], Opened]] = {
    each.__name__: each for each in (hf, lance, webdataset, npy, delta)
}


def test_every_format_is_tested() -> None:
    assert OPENERS.keys() == FORMATS.keys()


# The library leaves the last shard to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("to", FORMATS)
def test_its_own_library_reads_what_read_latents_reads(
    to: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hugging_face, "PART_BYTES", 4000)
    monkeypatch.setattr(web_dataset, "_MOST_ROWS", 25)
    folder = tmp_path / to
    if to == "lance":
        assert restyle("export", out, "--to", "lance", "--out", folder).returncode == 0
    else:
        assert export(str(out), to, str(folder)).rows == 59
    rows, w = read_latents(out)
    found, latents = OPENERS[to](folder, tmp_path / "cache")
    assert len(found) == len(rows) == 59
    assert sorted(found[0]) == sorted(rows.columns)
    keys = [(row["image_id"], row["revision"], row["face"]) for row in found]
    expected = list(zip(rows.image_id, rows.revision, rows.face, strict=True))
    if to == "delta":
        order = [keys.index(key) for key in expected]
        found, latents = [found[at] for at in order], latents.reshape(len(keys), -1)[order]
        keys = [keys[at] for at in order]
    assert keys == expected
    assert latents.dtype == np.float32
    assert latents.tobytes() == w.tobytes()
    for name in rows.columns:
        one, other = rows[name].tolist(), [row[name] for row in found]
        for mine, theirs in zip(one, other, strict=True):
            if isinstance(mine, np.ndarray):
                assert np.array_equal(mine, theirs)
            else:
                assert (pd.isna(mine) and pd.isna(theirs)) or mine == theirs, name


def test_hf_splits_into_files_and_has_a_card(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hugging_face, "PART_BYTES", 4000)
    folder = export(str(out), "hf", str(tmp_path / "hf")).folder
    assert len(list((folder / "data").iterdir())) == 2
    card = (folder / "README.md").read_text()
    assert "59 latents" in card
    assert "reshape(-1, 6, 16)" in card
    for column in read_latents(out)[0].columns:
        assert f"| `{column}` |" in card


@pytest.mark.parametrize(("faces", "kind"), [(300, "IVF_FLAT"), (10_240, "IVF_PQ")])
def test_lance_finds_neighbours_by_its_index(faces: int, kind: str, tmp_path: Path) -> None:
    made = Made(faces=faces, shape=(2, 16), reconstructions="none", save_steps="none", unit=5120)
    fabricate(tmp_path / "out", made)
    rows, w = read_latents(tmp_path / "out")
    wanted = w[17].reshape(-1) + 0.001
    np.save(tmp_path / "wanted.npy", wanted)
    in_process_of_its_own(
        """
import json, sys, lance, numpy as np
from restyle.pipeline.exporting.export import export
folder, kind = sys.argv[1:]
dataset = lance.dataset(str(export(folder + "/out", "lance", folder + "/lance").folder))
(index,) = dataset.describe_indices()
assert (index.field_names, index.index_type) == (["latent"], kind), index
wanted = np.load(folder + "/wanted.npy")
nearest = {"column": "latent", "q": wanted, "k": 5, "nprobes": 2, "refine_factor": 10}
assert "ANN" in dataset.scanner(nearest=nearest).explain_plan()
found = dataset.to_table(nearest=nearest)["source"].to_pylist()
open(folder + "/found.json", "w").write(json.dumps(found))
""",
        tmp_path,
        kind,
    )
    found = json.loads((tmp_path / "found.json").read_text())
    order = np.argsort(((w.reshape(faces, -1) - wanted) ** 2).sum(1))[:5]
    assert found[0] == rows.source[17]
    if kind == "IVF_FLAT":
        assert found == rows.source[order].tolist()


def test_shards_hold_no_pickles(out: Path, tmp_path: Path) -> None:
    folder = export(str(out), "webdataset", str(tmp_path / "shards")).folder
    with tarfile.open(folder / "latents-000000.tar") as shard:
        assert {name.rpartition(".")[2] for name in shard.getnames()} == {"npy", "json"}


@pytest.mark.parametrize("to", ["hf"])
def test_of_an_output_on_s3(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(faces=20, unit=8, shape=(2, 8), reconstructions="none", save_steps="none")
    with faulty_s3(monkeypatch):
        fabricate("s3://bucket/out", made)
        done = export("s3://bucket/out", to, str(tmp_path / to))
        rows, w = read_latents("s3://bucket/out")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found, latents = OPENERS[to](done.folder, tmp_path / "cache")
    assert len(found) == len(rows) == 20
    assert sorted(latents.reshape(20, -1).tolist()) == sorted(w.reshape(20, -1).tolist())


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link", "inside", "remote"])
def test_a_target_that_is_refused(kind: str, out: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    message = "exists; remove it"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.touch()
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    elif kind == "inside":
        target, message = out / "exports" / "one", "name a folder beside it"
    address = "s3://bucket/target" if kind == "remote" else str(target)
    with pytest.raises(SpecError, match="not on a disk" if kind == "remote" else message):
        export(str(out), "npy", address)
    assert not (out / "exports").exists()


@pytest.mark.parametrize("to", ["lance", "webdataset", "delta"])
def test_a_missing_library_is_named_with_its_extra(
    to: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match=rf"pip install 'restyle-pipeline\[{to}\]'"):
        export(str(out), to, str(tmp_path / to))
    assert not list(tmp_path.iterdir())


def test_nothing_to_export(tmp_path: Path) -> None:
    fabricate(tmp_path / "out", Made(faces=0, rejects=3))
    with pytest.raises(SpecError, match="holds no faces"):
        export(str(tmp_path / "out"), "npy", str(tmp_path / "npy"))
    assert not (tmp_path / "npy").exists()


@pytest.mark.parametrize("to", sorted(FORMATS.keys() - {"lance"}))
def test_a_damaged_file_leaves_no_export(to: str, out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    largest = max((copy / "latents").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    with pytest.raises(FatalError, match=r"cannot read|damaged"):
        export(str(copy), to, str(tmp_path / to))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_lance_names_the_damaged_file(out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    largest = max((copy / "latents").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    done = restyle("export", copy, "--to", "lance", "--out", tmp_path / "lance")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot read {largest}")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("to", ["npy", "hf", "webdataset"])
def test_a_full_disk_leaves_no_export(to: str, out: Path, tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from restyle.jobs.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "export", out, "--to", to, "--out", tmp_path / "x" / to]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cannot write")
    assert not list((tmp_path / "x").glob(f"*{to}"))


def test_a_killed_export_is_begun_anew(tmp_path: Path) -> None:
    made = Made(faces=6000, shape=(10, 512), reconstructions="none", save_steps="none")
    fabricate(tmp_path / "out", made)
    command = ["export", tmp_path / "out", "--to", "npy", "--out", tmp_path / "npy"]
    process = start(*command)
    hidden = tmp_path / ".npy.restyle-export" / "latents.npy"
    while process.poll() is None and not (hidden.exists() and hidden.stat().st_size > 2**20):
        pass
    process.kill()
    process.communicate()
    assert hidden.exists()
    assert not (tmp_path / "npy").exists()
    assert restyle(*command).returncode == 0
    assert map_latents(tmp_path / "npy")[1].tobytes() == read_latents(tmp_path / "out")[1].tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["npy", "out"]


def test_two_exports_to_one_folder(out: Path, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / ".npy.restyle-export.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(SpecError, match="another export"):
        export(str(out), "npy", str(tmp_path / "npy"))
    os.close(descriptor)
    export(str(out), "npy", str(tmp_path / "npy"))


@pytest.mark.parametrize("to", ["hf", "webdataset", "npy"])
def test_an_export_is_no_input(to: str, out: Path, tmp_path: Path, photos: Path) -> None:
    shutil.copy(photos / "smile.jpg", tmp_path)
    folder = export(str(out), to, str(tmp_path / "export")).folder
    assert json.loads((folder / "restyle-export.json").read_text())["format"] == to
    images = iter_images(str(tmp_path), str(tmp_path / "elsewhere"), InputOptions())
    listed = [image.source for batch in images for image in batch]
    assert listed == [str(tmp_path / "smile.jpg")]


def test_the_command_says_how_to_open_it(out: Path, tmp_path: Path) -> None:
    done = restyle("export", out, "--to", "npy", "--out", tmp_path / "npy")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'npy'}\n")
    assert done.stderr == f"59 rows; open with: restyle.map_latents('{tmp_path / 'npy'}')\n"
    again = restyle("export", out, "--to", "npy", "--out", tmp_path / "npy")
    assert again.returncode == 2
    assert again.stderr == (
        f"error: {tmp_path / 'npy'} exists; remove it, or name another folder with --out\n"
    )


def test_memory_does_not_grow_with_the_output(tmp_path: Path) -> None:
    """Ten times as many rows, 160 MB of latents more, take less than half of that."""
    peaks = []
    for faces in (1000, 9000):
        made = Made(faces=faces, shape=(10, 512), reconstructions="none", save_steps="none")
        fabricate(tmp_path / f"out{faces}", made)
        code = (
            "import resource\n"
            "from restyle.pipeline.exporting.export import export\n"
            f"export({str(tmp_path / f'out{faces}')!r}, 'npy', {str(tmp_path / f'x{faces}')!r})\n"
            "status = open('/proc/self/status').read()\n"
            "print(status.partition('VmHWM:')[2].split()[0])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 80_000


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "x", {}) as made:
            (made / "rows").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FatalError, match="cannot write"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_is_not_looked_for_when_an_input_is_forgotten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    storage = fabricate(out, Made(faces=3, unit=2))
    (tmp_path / "file").touch()
    with pytest.raises(FatalError, match="cannot write"):
        export(str(out), "npy", str(tmp_path / "file" / "x"))
    assert read_derived(storage) == []
    # One that was made, and was moved away since, is.
    export(str(out), "npy", str(tmp_path / "made"))
    (tmp_path / "made").rename(tmp_path / "moved")
    (tmp_path / ".made.restyle-export").touch()
    with pytest.raises(FatalError, match="cannot write"):
        export(str(out), "npy", str(tmp_path / "made"))
    assert [each.address for each in read_derived(storage)] == [str(tmp_path / "made")]


def test_no_password_of_a_target_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="s3://bucket/x is not on a disk") as error:
        export(str(tmp_path), "npy", "s3://key:hidden@bucket/x")
    assert "hidden" not in str(error.value)
