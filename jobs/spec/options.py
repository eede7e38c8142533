"""Command-line options generated from the fields of a specification.

All are optional here, because values of the command line override a specification file, and the
file overrides defaults.
"""

from __future__ import annotations

import functools
import inspect
import shlex
import typing
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import annotated_types
import typer
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo, OptionInfo

from restyle.jobs.spec.file import read_spec
from restyle.jobs.spec.job_spec import JobSpec
from restyle.jobs.spec.sections import MonitoringSection, WorkersSection
from restyle.jobs.spec.values import Spelled

Key = tuple[str, str]
"""Section and name of a field."""

Command = TypeVar("Command", bound=Callable[..., None])

Spec = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file with these options, see 'restyle spec init'; what is given here wins.",
        show_default=False,
    ),
]


def _field(key: Key) -> FieldInfo:
    return JobSpec.SECTIONS[key[0]].model_fields[key[1]]


def _spelled(key: Key) -> Spelled:
    return next((each for each in _field(key).metadata if isinstance(each, Spelled)), Spelled())


NAMES: dict[Key, str] = {
    (section, name): _spelled((section, name)).name or f"--{name.replace('_', '-')}"
    for section, kind in JobSpec.SECTIONS.items()
    for name in kind.model_fields
}
"""Names of a specification's fields on the command line."""

# Parameter names as derived by typer from the options' names.
_PARAMETERS = {
    name.removeprefix("--").replace("-", "_") if name.startswith("-") else key[1]: key
    for key, name in NAMES.items()
}


NOT_OF_OPTIMIZE = (
    "model.bootstrap", "inversion.polish", "inversion.tolerance", "inversion.best_step",
)  # fmt: skip
"""Fields that contradict an optimisation."""

RUNNING = ("workers", "monitoring")
"""Sections of commands that run units, whatever the operation."""


def takes(*wanted: str, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Add options of a specification to a command, which reads them by :func:`spec_from`.

    The order is: required ones, the command's own, the others. A parameter of the command replaces
    an option of the same name.

    Args:
        wanted: sections, and single fields as ``section.name``.
        without: fields to omit, as ``section.name``.
    """

    def decorate(command: Command) -> Command:
        hints = typing.get_type_hints(command, include_extras=True)
        signature = inspect.signature(command)
        own = [each.replace(annotation=hints[each.name]) for each in signature.parameters.values()]
        added = {
            name: key
            for name, key in _PARAMETERS.items()
            if key in _keys(wanted) and ".".join(key) not in without and name not in hints
        }
        required = [name for name, key in added.items() if _field(key).is_required()]
        optional = [name for name in added if name not in required]
        parameters = [
            *(each for each in own if each.default is each.empty),
            *(_parameter(name, added[name]) for name in required),
            *(each for each in own if each.default is not each.empty),
            *(_parameter(name, added[name]) for name in optional),
        ]

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            command(**{name: value for name, value in given.items() if name not in added})

        with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return typing.cast("Command", with_options)

    return decorate


def _keys(wanted: Collection[str]) -> Iterator[Key]:
    for key in NAMES:
        if key[0] in wanted or ".".join(key) in wanted:
            yield key


def _parameter(name: str, key: Key) -> inspect.Parameter:
    kind: Any = _field(key).annotation
    # Lists and pairs are text on the command line, which the specification parses.
    is_plain = not any(typing.get_origin(each) is tuple for each in (kind, *typing.get_args(kind)))
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[(kind if is_plain else str) | None, _option(key)],
    )


def _option(key: Key) -> ArgumentInfo | OptionInfo:
    field, name, metavar = _field(key), NAMES[key], _spelled(key).metavar
    text = field.description or ""
    if not field.is_required() and field.default not in (None, False):
        text += f" Default: {field.default}."
    if not name.startswith("-"):
        argument: ArgumentInfo = typer.Argument(metavar=name, help=text, show_default=False)
        return argument
    is_flag = bool in (field.annotation, *typing.get_args(field.annotation))
    low = next((each.ge for each in field.metadata if isinstance(each, annotated_types.Ge)), None)
    high = next((each.le for each in field.metadata if isinstance(each, annotated_types.Le)), None)
    option: OptionInfo = typer.Option(
        f"{name}/--no-{name.removeprefix('--')}" if is_flag else name,
        help=text,
        metavar=metavar,
        rich_help_panel=key[0].capitalize(),
        min=low,  # type: ignore[arg-type]
        max=high,  # type: ignore[arg-type]
        show_default=False,
    )
    return option


def spec_from(context: typer.Context, path: Path | None) -> JobSpec:
    """The job of a command line.

    Args:
        context: of a command with options by :func:`takes`.
        path: of the specification file, if any.

    Raises:
        SpecError: values are missing or wrong; the message names all faults.
    """
    return read_spec(path, _given(context), NAMES)


def spec_without_out(context: typer.Context, path: Path | None) -> JobSpec:
    """The job of a command line that need not say where to; the folder is then the present one.

    Args:
        context: as for :func:`spec_from`.
        path: as for :func:`spec_from`.

    Raises:
        SpecError: as for :func:`spec_from`.
    """
    somewhere = {("output", "out"): "."} if path is None else {}
    return read_spec(path, _given(context) | somewhere, NAMES)


def optimization_from(context: typer.Context, path: Path | None) -> JobSpec:
    """The job of ``restyle optimize``, which starts at the average unless told otherwise.

    Args:
        context: as for :func:`spec_from`.
        path: as for :func:`spec_from`.

    Raises:
        SpecError: as for :func:`spec_from`.
    """
    spec = spec_from(context, path)
    if spec.optimization.start is not None:
        return spec
    started = spec.optimization.model_copy(update={"start": "average"})
    return spec.model_copy(update={"optimization": started})


def running_from(context: typer.Context) -> tuple[WorkersSection, MonitoringSection]:
    """The sections of a command other than an inversion: who computes, and how it is watched.

    Args:
        context: of a command with options by :func:`takes`.

    Raises:
        SpecError: values are wrong; the message names all faults.
    """
    given = {key: value for key, value in _given(context).items() if key[0] in RUNNING}
    # Placeholders for required fields that such a command does not have.
    required = {("input", "source"): ".", ("output", "out"): "."}
    spec = read_spec(None, given | required, NAMES)
    return spec.workers, spec.monitoring


def _given(context: typer.Context) -> dict[tuple[str, str], Any]:
    return {
        _PARAMETERS[name]: value
        for name, value in context.params.items()
        if value is not None and name in _PARAMETERS
    }


def command_line(spec: JobSpec, **instead: str) -> str:
    """The command of a specification, quoted for a shell.

    It is ``restyle invert``, or ``restyle optimize`` where that is asked for.

    Args:
        spec: the job.
        instead: values that replace the job's, by parameter.
    """
    values: dict[tuple[str, str], Any] = spec.differing()
    values |= {_PARAMETERS[name]: value for name, value in instead.items()}
    source = str(values.pop(("input", "source")))
    words = ["restyle", "invert" if spec.optimization.start is None else "optimize"]
    for field, value in values.items():
        words += _words(NAMES[field], value)
    # An input's name may start with a dash.
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
    # Joined, because a separate value with a dash would be parsed as an option.
    return [f"{name}={text}"] if text.startswith("-") else [name, text]
