"""Input and output on an S3 server on loopback, through Ray and its workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from tests.command import restyle

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
    client.put_object(Bucket="photos", Key="album/deep/notes.txt", Body=b"text")
    client.put_object(Bucket="photos", Key="album/.hidden", Body=b"")
    client.put_object(Bucket="photos", Key="album/folder/", Body=b"")

    out = "s3://results/run one"
    command = ["invert", "s3://photos/album", "--out", out, "--model", tiny_model, "--steps", "2"]
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
    assert rejects.source.tolist() == ["s3://photos/album/deep/notes.txt"]

    proof = restyle("verify", out)
    assert proof.returncode == 0, proof.stdout + proof.stderr
    again = restyle(*command, "--device", "cpu")
    assert "nothing to do" in again.stderr
    client.delete_object(Bucket="results", Key="run one/" + next(iter_latents(objects)))
    broken = restyle("verify", out)
    assert broken.returncode == 1
    assert "is missing" in broken.stdout


def iter_latents(objects: dict[str, bytes]) -> Iterator[str]:
    return (key.partition("/")[2] for key in objects if "/latents/" in key)


def test_no_such_bucket_is_one_line(server: dict[str, str], tiny_model: Path) -> None:
    result = restyle("invert", "s3://nowhere/x", "--out", "s3://nowhere/y", "--model", tiny_model)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "s3://nowhere" in line
