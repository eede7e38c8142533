"""Input and output on an S3 server on loopback, through Ray and its workers, and every source."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from PIL import Image

from restyle.core.editing.directions import About, Direction
from restyle.core.faces.alignment import Framing, align_faces, face_quad
from restyle.core.imaging.decoding import decode_image
from restyle.pipeline.results.query import query
from restyle.pipeline.sources import SourceReader, iter_images, remote_files
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from tests.pipeline.sources.tars import packed
from tests.warm_command import restyle

SECRET = "not-to-be-written-anywhere"  # noqa: S105 (that is the point)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    made = ThreadedMotoServer(port=0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    env = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    # Connections are kept for the process, and would lead to the server of another test.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield env
    made.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_from_s3_to_s3(
    server: dict[str, str], photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    client.create_bucket(Bucket="results")
    for name in ("smile.jpg", "evening.jpg"):
        client.upload_file(str(photos / name), "photos", f"album/{name}")
    client.put_object(Bucket="photos", Key="album/deep/notes.jpg", Body=b"text")
    client.put_object(Bucket="photos", Key="album/deep/notes.txt", Body=b"text")
    client.put_object(Bucket="photos", Key="album/.hidden", Body=b"")
    client.put_object(Bucket="photos", Key="album/folder/", Body=b"")

    out = "s3://results/run one"
    command = [
        "invert",
        "s3://photos/album",
        "--out",
        out,
        "--model",
        tiny_model,
        "--steps",
        "2",
        "--executor",
        "ray",
    ]
    result = restyle(*command, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert f"{out}/report.html" in result.stdout

    objects = {
        entry["Key"]: client.get_object(Bucket="results", Key=entry["Key"])["Body"].read()
        for entry in client.list_objects_v2(Bucket="results")["Contents"]
    }
    assert {key.split("/")[1] for key in objects} == {
        *("latents", "steps", "reconstructions", "rejects"),
        *("_ledger", "run.json", "report.html"),
    }
    assert not any(SECRET.encode() in body for body in objects.values())
    for key, body in objects.items():
        target = tmp_path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    latents = pd.read_parquet(tmp_path / "run one" / "latents")
    assert latents.source.tolist() == [
        "s3://photos/album/evening.jpg",
        "s3://photos/album/smile.jpg",
    ]
    rejects = pd.read_parquet(tmp_path / "run one" / "rejects")
    assert rejects.source.tolist() == ["s3://photos/album/deep/notes.jpg"]

    proof = restyle("verify", out)
    assert proof.returncode == 0, proof.stdout + proof.stderr
    again = restyle(*command, "--device", "cpu")
    assert "nothing to do" in again.stderr
    edit_on_s3(out, tmp_path)
    client.delete_object(Bucket="results", Key="run one/" + next(iter_latents(objects)))
    broken = restyle("verify", out)
    assert broken.returncode == 1
    assert "is missing" in broken.stdout


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_landmarks_and_a_list_on_s3_through_ray(
    server: dict[str, str], photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    client.create_bucket(Bucket="results")
    names = ("smile.jpg", "evening.jpg", "two friends.jpg")
    landmarks = {}
    for name in names:
        client.upload_file(str(photos / name), "photos", f"album/{name}")
        faces = align_faces(decode_image((photos / name).read_bytes()), 32, "all")
        landmarks[f"album/{name}"] = [face.landmarks.tolist() for face in faces]
    landmarks["album/evening.jpg"] = [points[:60] for points in landmarks["album/evening.jpg"]]
    uris = [f"s3://photos/album/{name}" for name in names]
    client.put_object(Bucket="photos", Key="list.txt", Body="\n".join(uris).encode())
    client.put_object(Bucket="photos", Key="l.json", Body=json.dumps(landmarks).encode())

    out = "s3://results/marked"
    command = ["invert", "s3://photos/list.txt", "--landmarks", "s3://photos/l.json", "--out", out]
    command += ["--faces", "all", "--steps", "1", "--model", str(tiny_model), "--device", "cpu"]
    result = restyle(*command, "--executor", "ray")
    assert result.returncode == 0, result.stderr
    rows = query(out, "select source, quad from latents order by source").read_all().to_pylist()
    assert [row["source"] for row in rows] == [uris[0], uris[2], uris[2]]
    config = json.loads((tiny_model / "model.json").read_bytes())
    framing = Framing(config.get("framing_scale", 1.0), config.get("framing_shift", 0.0))
    expected = face_quad(np.array(landmarks["album/smile.jpg"][0]), framing)
    assert np.array_equal(np.reshape(rows[0]["quad"], (4, 2)), expected)
    (reject,) = query(out, "select source, reason from rejects").read_all().to_pylist()
    assert reject == {"source": uris[1], "reason": "bad_landmarks"}
    assert restyle("verify", out).returncode == 0
    assert "nothing to do" in restyle(*command).stderr


def edit_on_s3(out: str, folder: Path) -> None:
    """Faces from the store, put back into photographs from the store, into the store."""
    vector = np.random.default_rng(0).normal(size=32)
    direction = Direction.of(vector, About(name="any", kind="sefa", scale=1)).save(folder)
    edits = "s3://results/the edits"
    command = ["edit", out, "--direction", direction, "--strength", "1", "--to", edits]
    command += ["--no-score", "--paste-back", "--device", "cpu"]
    result = restyle(*command)
    assert result.returncode == 0, result.stderr
    assert "2 faces, 1 edit each; 2 photographs in this run" in result.stdout
    proof = restyle("verify", edits)
    assert (proof.returncode, proof.stdout.splitlines()[-1]) == (0, "clean")
    rows = query(edits, "select photo, photo_problem from edits").read_all().to_pylist()
    assert [row["photo_problem"] for row in rows] == [None, None]
    assert all(Image.open(io.BytesIO(row["photo"])).format == "PNG" for row in rows)
    assert "0 photographs in this run" in restyle(*command).stdout


def iter_latents(objects: dict[str, bytes]) -> Iterator[str]:
    return (key.partition("/")[2] for key in objects if "/latents/" in key)


def test_no_such_bucket_is_one_line(server: dict[str, str], tiny_model: Path) -> None:
    result = restyle("invert", "s3://nowhere/x", "--out", "s3://nowhere/y", "--model", tiny_model)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "s3://nowhere" in line


def listed(source: str, options: InputOptions | None = None) -> list[SourceImage]:
    """Every input once, in the order of the stream."""
    batches = iter_images(source, "s3://inputs/out", options or InputOptions())
    return list({image.image_id: image for batch in batches for image in batch}.values())


@pytest.fixture
def inputs(server: dict[str, str]) -> dict[str, bytes]:
    client = boto3.client("s3")
    client.create_bucket(Bucket="inputs")
    rows = io.BytesIO()
    pq.write_table(pa.table({"image": [b"row0", b"row1", b"row2"]}), rows, row_group_size=2)
    uris = io.BytesIO()
    pq.write_table(pa.table({"uri": ["s3://inputs/album/a.jpg", "../album/empty.jpg"]}), uris)
    objects = {
        "album/a.jpg": b"file",
        "album/empty.jpg": b"",
        "album/deep/b c?#%41.jpg": b"odd",
        "album/.hidden.jpg": b"x",
        "album/folder/": b"",
        "album/notes.png": b"notes",
        "album/notes.txt": b"passed over",
        "out/latents/x.parquet": b"x",
        "old/_ledger/plan-000000.parquet": b"x",
        "old/latents/part-000000-1.parquet": b"x",
        "old/strip.png": b"x",
        "old/z/.restyle-output/mix.png": b"",
        "old/z/mix.png": b"x",
        "old/z/own.png": b"own",
        "shards/1.tar": packed([("x/1.jpg", b"m1"), ("x/1.json", b"{}"), ("x/2.jpg", b"m2" * 999)]),
        "shards/2.tar": packed([("1.jpg", b"n1"), ("../2.jpg", b"n2"), ("3.jpg", b"3" * 999)])[
            :2700
        ],
        "rows/a.parquet": rows.getvalue(),
        "lists/uris.parquet": uris.getvalue(),
        "lists/uris.txt": b"s3://inputs/album/a.jpg\n../album/empty.jpg\ngone.jpg\n../shards/1.tar\n",
        "lists/uris.csv": b'id,url\n1,"s3a://inputs/album/a.jpg"\n2,s3://nowhere/x.jpg\n',
    }
    for key, body in objects.items():
        client.put_object(Bucket="inputs", Key=key, Body=body)
    return objects


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_every_source_on_s3(inputs: dict[str, bytes]) -> None:
    read = SourceReader("s3://inputs").read
    files = listed("s3://inputs/album")
    names = ["a.jpg", "deep/b c?#%41.jpg", "empty.jpg", "notes.png"]
    assert [image.source for image in files] == [f"s3://inputs/album/{name}" for name in names]
    assert [read(image) for image in files] == [inputs[f"album/{name}"] for name in names]
    assert [image.size for image in files] == [4, 3, 0, 5]
    assert listed("s3a://inputs/album/") == files
    assert listed("s3://inputs/album/a.jpg") == files[:1]
    assert listed("s3://inputs/*/*.jpg") == [files[0], files[2]]
    assert listed("s3://inputs/al*") == files
    assert listed("s3://inputs/album/deep/b c?#%41.jpg") == files[1:2]
    for source in ("s3://inputs/old", "s3a://inputs/o*", "s3://inputs/old/**/*.png"):
        assert [image.source for image in listed(source)] == ["s3://inputs/old/z/own.png"]

    tars = listed("s3://inputs/shards")
    assert [(i.source.partition("shards/")[2], i.fault.partition("|")[0]) for i in tars] == [
        ("1.tar::x/1.jpg", ""),
        ("1.tar::x/2.jpg", ""),
        ("2.tar::1.jpg", ""),
        ("2.tar::../2.jpg", "unsafe_name"),
        ("2.tar", "damaged_archive"),
    ]
    assert [read(image) for image in tars[:3]] == [b"m1", b"m2" * 999, b"n1"]

    rows = listed("s3://inputs/rows/a.parquet")
    assert [read(image) for image in rows] == [b"row0", b"row1", b"row2"]
    assert rows[2].source == "s3://inputs/rows/a.parquet::row2"

    text = listed("s3://inputs/lists/uris.txt")
    assert [image.uri.decode() for image in text] == [
        "s3://inputs/album/a.jpg",
        "s3://inputs/album/empty.jpg",
        "s3://inputs/lists/gone.jpg",
        *["s3://inputs/shards/1.tar"] * 2,
    ]
    # The same file is the same input, however it was found.
    assert text[0].image_id == files[0].image_id
    assert [read(image) for image in text[:2]] == [b"file", b""]
    assert text[3:] == tars[:2]
    with pytest.raises(FileNotFoundError):
        read(text[2])
    assert listed("s3://inputs/lists/uris.parquet") == text[:2]
    table = listed("s3://inputs/lists/uris.csv", InputOptions(column="url"))
    assert table[0] == text[0]
    with pytest.raises(OSError, match=r"."):
        read(table[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_changes_of_shards_on_s3_are_noticed(inputs: dict[str, bytes]) -> None:
    before = listed("s3://inputs/shards/1.tar") + listed("s3://inputs/rows")
    read = SourceReader("s3://inputs").read
    assert read(before[0]) == b"m1"
    client = boto3.client("s3")
    for key in ("shards/1.tar", "rows/a.parquet"):
        client.put_object(Bucket="inputs", Key=key, Body=inputs[key] + bytes(512))
    after = listed("s3://inputs/shards/1.tar")
    assert [image.image_id for image in after] == [image.image_id for image in before[:2]]
    assert after[0].version != before[0].version
    for image in (before[0], before[2]):
        with pytest.raises(OSError, match="has changed since it was planned"):
            SourceReader("s3://inputs").read(image)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_listing_a_bucket_goes_page_by_page(server: dict[str, str]) -> None:
    boto3.client("s3").create_bucket(Bucket="many")
    (backend,) = s3_backends["123456789012"].values()
    keys = [f"{at // 700}/{at:05d}.jpg" for at in range(4200)]
    for key in keys:
        backend.put_object("many", key, b"x")
    stream = iter_images("s3://many", "/out", InputOptions())
    sources = [image.source for batch in stream for image in batch]
    assert sources == [f"s3://many/{key}" for key in keys]
    pages = []
    original = remote_files._s3_pages

    def counted(*arguments: object) -> Iterator[list[dict[str, object]]]:
        for page in original(*arguments):
            pages.append(len(page))
            yield page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_files, "_s3_pages", counted)
        stream = iter_images("s3://many/[2-4]/*7.jpg", "/out", InputOptions())
        assert sum(len(batch) for batch in stream) == sum(
            key[0] in "234" and key.endswith("7.jpg") for key in keys
        )
    assert pages == [1000, 1000, 1000, 1000, 200]
