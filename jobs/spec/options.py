"""The options of the command line, made from the fields of a specification.

Each is optional here, so that one which is not given can be told from one at its default: what
is given wins over a specification file, and the file over the defaults.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
import typer
from pydantic.fields import FieldInfo
from typer.models import OptionInfo

from restyle.jobs.spec.file import read_spec
from restyle.jobs.spec.job_spec import JobSpec, WorkersSection
from restyle.pipeline.execution.request import Executor
from restyle.pipeline.ledger.settings import FacePolicy, Reconstructions, SaveSteps
from restyle.pipeline.sources.options import InputFormat

_RENAMED = {
    ("input", "source"): "INPUT",
    ("input", "format"): "--input-format",
    ("model", "name"): "--model",
}

NAMES: dict[tuple[str, str], str] = {
    (section, name): _RENAMED.get((section, name), f"--{name.replace('_', '-')}")
    for section, kind in JobSpec.SECTIONS.items()
    for name in kind.model_fields
}
"""What each field of a specification is called on the command line."""

# The names of the functions' parameters: what typer makes of the options' names.
_PARAMETERS = {
    "source" if name == "INPUT" else name.removeprefix("--").replace("-", "_"): field
    for field, name in NAMES.items()
}


def _field(section: str, name: str) -> FieldInfo:
    return JobSpec.SECTIONS[section].model_fields[name]


def _option(section: str, name: str, flags: str = "", metavar: str | None = None) -> OptionInfo:
    field = _field(section, name)
    low = next((each.ge for each in field.metadata if isinstance(each, annotated_types.Ge)), None)
    high = next((each.le for each in field.metadata if isinstance(each, annotated_types.Le)), None)
    text = field.description or ""
    if not field.is_required() and field.default is not None:
        text += f" Default: {field.default}."
    option: OptionInfo = typer.Option(
        flags or NAMES[section, name],
        help=text,
        metavar=metavar,
        min=low,  # type: ignore[arg-type]
        max=high,  # type: ignore[arg-type]
        show_default=False,
    )
    return option


Source = Annotated[
    str | None,
    typer.Argument(metavar="INPUT", help=_field("input", "source").description, show_default=False),
]
Spec = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file with these options, see 'restyle spec init'; what is given here wins.",
        show_default=False,
    ),
]
Out = Annotated[str | None, _option("output", "out")]
Format = Annotated[InputFormat | None, _option("input", "format")]
Column = Annotated[str | None, _option("input", "column", metavar="NAME")]
Limit = Annotated[int | None, _option("input", "limit")]
MaxRejectRate = Annotated[float | None, _option("input", "max_reject_rate")]
SaveStepsOption = Annotated[SaveSteps | None, _option("output", "save_steps")]
ReconstructionsOption = Annotated[Reconstructions | None, _option("output", "reconstructions")]
Model = Annotated[str | None, _option("model", "name")]
Dtype = Annotated[Literal["auto", "fp32", "tf32", "bf16"] | None, _option("model", "dtype")]
Bootstrap = Annotated[str | None, _option("model", "bootstrap", metavar="MODEL")]
Steps = Annotated[int | None, _option("inversion", "steps")]
Tolerance = Annotated[float | None, _option("inversion", "tolerance")]
Align = Annotated[bool | None, _option("inversion", "align", "--align/--no-align")]
Faces = Annotated[FacePolicy | None, _option("inversion", "faces")]
Metrics = Annotated[str | None, _option("inversion", "metrics", metavar="LIST")]
Device = Annotated[str | None, _option("workers", "device")]
BatchSize = Annotated[int | None, _option("workers", "batch_size")]
Address = Annotated[str | None, _option("workers", "address", metavar="ADDRESS")]
AlignActors = Annotated[str | None, _option("workers", "align_actors", metavar="MIN:MAX")]
InvertActors = Annotated[str | None, _option("workers", "invert_actors", metavar="MIN:MAX")]
ExecutorOption = Annotated[Executor | None, _option("workers", "executor")]
GpusPerActor = Annotated[float | None, _option("workers", "gpus_per_actor")]


def spec_from(context: typer.Context, path: Path | None) -> JobSpec:
    """The job that a command line asks for.

    Args:
        context: of a command, any of whose parameters may be annotated as above.
        path: of the specification that the command line comes on top of.

    Raises:
        SpecError: something is missing or wrong; every fault is named.
    """
    return read_spec(path, _given(context), NAMES)


def workers_from(context: typer.Context) -> WorkersSection:
    """Where a command that is no inversion is to work.

    Args:
        context: of a command, any of whose parameters may be annotated as those of workers above.

    Raises:
        SpecError: something is wrong; every fault is named.
    """
    given = {field: value for field, value in _given(context).items() if field[0] == "workers"}
    # What a specification must have besides is not asked of such a command.
    required = {("input", "source"): ".", ("output", "out"): "."}
    return read_spec(None, given | required, NAMES).workers


def _given(context: typer.Context) -> dict[tuple[str, str], Any]:
    return {
        _PARAMETERS[name]: value
        for name, value in context.params.items()
        if value is not None and name in _PARAMETERS
    }


def command_line(spec: JobSpec, **instead: str) -> str:
    """The ``restyle invert`` that does what a specification says, quoted for a shell.

    Args:
        spec: the job.
        instead: values of options that are to stand in place of the job's, by parameter.
    """
    values: dict[tuple[str, str], Any] = spec.differing()
    values |= {_PARAMETERS[name]: value for name, value in instead.items()}
    source = str(values.pop(("input", "source")))
    words = ["restyle", "invert"]
    for field, value in values.items():
        words += _words(NAMES[field], value)
    # A name may begin with a dash.
    words += ["--", source] if source.startswith("-") else [source]
    return shlex.join(words)


def _words(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [name if value else f"--no-{name.removeprefix('--')}"]
    if isinstance(value, tuple):
        if all(isinstance(each, int) for each in value) and value:
            value = ":".join(map(str, value))
        else:
            value = ",".join(value) or "none"
    text = str(value)
    # Joined, where a value of its own would be taken for an option.
    return [f"{name}={text}"] if text.startswith("-") else [name, text]
