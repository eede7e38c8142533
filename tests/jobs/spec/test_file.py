"""Specifications: what is accepted, what wins, and how faults are told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from restyle.core.errors import SpecError
from restyle.jobs.spec.file import example, read_spec
from restyle.jobs.spec.job_spec import JobSpec
from restyle.jobs.spec.options import NAMES
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.sources.options import InputOptions

FULL = """
[input]
source = "s3://photos/2026"
format = "parquet"
column = "image"
landmarks = "s3://photos/faces.csv"
limit = 7
max_reject_rate = 0.5
[output]
out = "s3://latents/2026"
save_steps = "latents"
reconstructions = "none"
[model]
name = "faces64:single-pass-psp"
dtype = "fp32"
bootstrap = "faces64"
[inversion]
steps = 1
align = false
faces = "all"
metrics = ["lpips", "l2"]
[workers]
device = "cuda"
batch_size = 3
address = "head:6379"
align_actors = [2, 16]
invert_actors = "1:8"
gpus_per_actor = 0.5
"""

MINIMAL = '[input]\nsource = "s3://b/in"\n[output]\nout = "s3://b/out"\n'


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "job.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def read(path: Path | None, **given: Any) -> JobSpec:
    fields = {name.removeprefix("--").replace("-", "_"): field for field, name in NAMES.items()}
    return read_spec(path, {fields[name]: value for name, value in given.items()}, NAMES)


def test_every_field_reaches_the_request(spec: Any) -> None:
    assert read(spec(FULL)).request() == Request(
        source="s3://photos/2026",
        out="s3://latents/2026",
        settings=InversionSettings(
            model="faces64:single-pass-psp",
            steps=1,
            align=False,
            faces="all",
            save_steps="latents",
            reconstructions="none",
            metrics=("l2", "lpips"),
            dtype="fp32",
            bootstrap="faces64",
        ),
        device="cuda",
        batch_size=3,
        limit=7,
        max_reject_rate=0.5,
        input=InputOptions(format="parquet", column="image", landmarks="s3://photos/faces.csv"),
        workers=Workers(
            address="head:6379", align_actors=(2, 16), invert_actors=(1, 8), gpus_per_actor=0.5
        ),
    )


def test_what_may_be_left_out_is_at_the_pipelines_own_defaults(spec: Any) -> None:
    plain = Request(source="s3://b/in", out="s3://b/out", settings=InversionSettings())
    assert read(spec(MINIMAL)).request() == plain
    assert read(None, INPUT="s3://b/in", out="s3://b/out").request() == plain


def test_the_command_line_wins(spec: Any) -> None:
    request = read(spec(FULL), steps=4, metrics="none", align_actors="3", out="here").request()
    assert (request.settings.steps, request.settings.metrics) == (4, ())
    assert request.workers.align_actors == (3, 3)
    assert request.out == "here"
    assert request.settings.faces == "all"


def test_paths_start_at_the_folder_of_the_file(spec: Any, tmp_path: Path) -> None:
    text = '[input]\nsource = "in/*.jpg"\nlandmarks = "l.csv"\n'
    text += '[output]\nout = "../out"\n[model]\nname = "./m:e"\n'
    request = read(spec(text)).request()
    assert request.source == str(tmp_path / "in" / "*.jpg")
    assert request.input.landmarks == str(tmp_path / "l.csv")
    assert request.out == str(tmp_path.parent / "out")
    assert request.settings.model == str(tmp_path / "m:e")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[input", "is no TOML"),
        ('[input]\nsource = "x"', "output is missing"),
        ('[input]\n[output]\nout = "y"', "input.source is missing"),
        (MINIMAL + "[inversion]\nstpes = 3", "inversion.stpes is no option; did you mean steps?"),
        (MINIMAL + "[inversoin]\nsteps = 3", "inversoin is no option; did you mean inversion?"),
        (MINIMAL + "[workers]\nsteps = 3", "did you mean inversion.steps?"),
        (MINIMAL + '[inversion]\nsteps = "3"', "inversion.steps input should be a valid integer"),
        (MINIMAL + "[inversion]\nsteps = 101", "inversion.steps input should be less than"),
        (MINIMAL + '[inversion]\nfaces = "two"', "'largest' or 'all'"),
        (MINIMAL + '[inversion]\nmetrics = ["beauty"]', "there is no metric 'beauty'"),
        (MINIMAL + '[workers]\ndevice = "tpu"', "auto, cpu, cuda or cuda:N"),
        (MINIMAL + '[workers]\naddress = "http://head:8265"', "are for restyle submit"),
        (MINIMAL + "[workers]\nalign_actors = [3, 2]", "MIN:MAX with 1 <= MIN <= MAX"),
        (MINIMAL + '[workers]\ninvert_actors = "2:"', "MIN:MAX"),
        (MINIMAL + "[workers]\ngpus_per_actor = -1", "greater than or equal to 0"),
    ],
)
def test_faults_are_named(spec: Any, text: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)) as caught:
        read(spec(text))
    assert "job.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_faults_are_told_at_once_where_they_were_made(spec: Any) -> None:
    with pytest.raises(SpecError) as caught:
        read(spec('[input]\nlimit = 0\n[output]\nout = "y"'), steps=0, align_actors="a:b")
    faults = str(caught.value).split("; ")
    assert [fault.partition(" ")[0] for fault in faults[2:]] == ["--steps:", "--align-actors:"]
    assert "input.source is missing" in faults[0]
    assert "input.limit" in faults[1]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://key:geheim@bucket/in",
        "https://host/in?X-Amz-Signature=geheim",
        "az://c/in?sv=1&sig=geheim",
    ],
)
@pytest.mark.parametrize("option", ["INPUT", "out"])
@pytest.mark.parametrize("is_given", [False, True])
def test_secrets_are_refused_and_not_repeated(
    spec: Any, uri: str, option: str, is_given: bool
) -> None:
    place = "s3://b/in" if option == "INPUT" else "s3://b/out"
    path = spec(MINIMAL if is_given else MINIMAL.replace(place, uri))
    with pytest.raises(SpecError, match="leave the password or signature out") as caught:
        read(path, **({option: uri} if is_given else {}))
    assert "geheim" not in str(caught.value)


def test_the_example_explains_every_option_and_is_accepted(spec: Any) -> None:
    read(spec(example()))
    # Uncommented, its defaults are defaults and its examples are valid.
    whole = re.sub(r"^# (\w+ = )", r"\1", example(), flags=re.M)
    values = tomllib.loads(whole)
    assert {(section, name) for section in values for name in values[section]} == set(NAMES)
    read(spec(whole))
    for line in re.findall(r"^# (\w+ = [^#\n]*)$", example(), flags=re.M):
        ((name, value),) = tomllib.loads(line).items()
        defaults = [
            kind.model_fields[name].default
            for kind in JobSpec.SECTIONS.values()
            if name in kind.model_fields
        ]
        assert value in defaults
