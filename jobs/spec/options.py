"""The options of the command line, made from the fields of a specification.

Each is optional here, so that one which is not given can be told from one at its default: what
is given wins over a specification file, and the file over the defaults.
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
from restyle.jobs.spec.job_spec import JobSpec, Spelled, WorkersSection

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
"""What each field of a specification is called on the command line."""

# The names of the functions' parameters: what typer makes of the options' names.
_PARAMETERS = {
    name.removeprefix("--").replace("-", "_") if name.startswith("-") else key[1]: key
    for key, name in NAMES.items()
}


def takes(*wanted: str, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options of a specification, to be read by :func:`spec_from`.

    Required ones come first, then the command's own, then the others. A parameter of the command
    takes the place of an option of the same name.

    Args:
        wanted: sections, and single fields as ``section.name``.
        without: fields that are left out, as ``section.name``.
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
    # Lists and pairs are written as text, which the specification takes apart.
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
    if not field.is_required() and field.default is not None:
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
        min=low,  # type: ignore[arg-type]
        max=high,  # type: ignore[arg-type]
        show_default=False,
    )
    return option


def spec_from(context: typer.Context, path: Path | None) -> JobSpec:
    """The job that a command line asks for.

    Args:
        context: of a command that :func:`takes` options.
        path: of the specification that the command line comes on top of.

    Raises:
        SpecError: something is missing or wrong; every fault is named.
    """
    return read_spec(path, _given(context), NAMES)


def workers_from(context: typer.Context) -> WorkersSection:
    """Where a command that is no inversion is to work.

    Args:
        context: of a command that :func:`takes` options of workers.

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
