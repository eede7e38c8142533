"""Specification files: TOML read into a ``JobSpec``, and one to start from."""

from __future__ import annotations

import difflib
import json
import os
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from restyle.core.errors import SpecError
from restyle.jobs.spec.job_spec import JobSpec
from restyle.pipeline.storage.filesystem import absolute_path, local_path

Given = Mapping[tuple[str, str], Any]
"""Section and name of a field, to the value that the command line gives it."""

_WIDTH = 100
_PATHS = (("input", "source"), ("output", "out"), ("model", "name"), ("model", "bootstrap"))


def read_spec(path: Path | None, given: Given, names: Mapping[tuple[str, str], str]) -> JobSpec:
    """A specification with the command line on top of it.

    Relative paths in the file start at the file's own folder; those of the command line, where
    the user stands.

    Args:
        path: the file; None for the command line alone.
        given: what the command line says; wins over the file.
        names: what the fields are called on the command line.

    Raises:
        SpecError: the file is missing or no TOML, or values are wrong; every fault is named.
    """
    values = {} if path is None else _anchored(_read(path), path)
    for (section, name), value in given.items():
        part = values.setdefault(section, {})
        # What is no section is told below, among the other faults.
        if isinstance(part, dict):
            part[name] = value
    try:
        return JobSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(_faults(error, path, given, names)) from None


def example() -> str:
    """A specification with every option: what it is, its default, and the required ones set."""
    parts = ["# A job for: restyle invert --spec FILE, or on a cluster: restyle submit FILE\n"]
    for section, kind in JobSpec.SECTIONS.items():
        parts.append(f"\n# {kind.__doc__}\n[{section}]\n")
        for name, field in kind.model_fields.items():
            parts.append(_documented(name, field))
    return "".join(parts)


def _documented(name: str, field: FieldInfo) -> str:
    """The comment and the line of one option; commented out where it may be left out."""
    text = field.description or ""
    if choices := choices_of(field):
        text += f" One of: {', '.join(choices)}."
    comment = textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    if field.is_required():
        return f"{comment}\n{name} = {_toml((field.examples or [''])[0])}\n"
    value = field.default if field.default is not None else (field.examples or [""])[0]
    remark = "" if field.default is not None else "  # an example, not the default"
    return f"{comment}\n# {name} = {_toml(value)}{remark}\n"


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that an option may be; empty when it is free."""
    return tuple(
        str(choice)
        for choice in getattr(field.annotation, "__args__", ())
        if isinstance(choice, str)
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpecError(
            f"{path} does not exist; 'restyle spec init {path}' writes one to start from"
        ) from error
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path} is no TOML: {error}") from error


def _anchored(values: dict[str, Any], path: Path) -> dict[str, Any]:
    for section, name in _PATHS:
        part = values.get(section)
        value = part.get(name) if isinstance(part, dict) else None
        if not isinstance(value, str) or not value or local_path(value) != value:
            continue
        # Without a slash a model is a name, such as faces64, unless it is a file.
        if section == "model" and "/" not in value and not value.endswith(".pt"):
            continue
        # Not Path.expanduser, which raises for an unknown user.
        anchored = Path(path.parent, os.path.expanduser(value))  # noqa: PTH111
        values[section] = {**values[section], name: absolute_path(str(anchored))}
    return values


def _faults(
    error: ValidationError, path: Path | None, given: Given, names: Mapping[tuple[str, str], str]
) -> str:
    """Every fault in one line, in the user's words: options as options, fields by section."""
    told: dict[str, None] = {}
    missing = []
    for fault in error.errors(include_url=False, include_input=False):
        field = tuple(str(part) for part in fault["loc"][:2])
        if path is None and fault["type"] == "missing":
            missing += [name for key, name in names.items() if key[: len(field)] == field]
        elif len(field) == 2 and field in given:
            told[f"{names[field[0], field[1]]}: {_message(fault)}"] = None
        else:
            told[f"{path}: {'.'.join(field)} {_message(fault)}"] = None
    missing = [name for name in missing if name in ("INPUT", "--out")]
    for name in missing:
        kind = "option" if name.startswith("-") else "argument"
        told[f"Missing {kind} '{name}' (or give --spec)"] = None
    return "; ".join(told)


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "extra_forbidden":
        *sections, name = (str(part) for part in fault["loc"])
        known = JobSpec.SECTIONS[sections[0]].model_fields if sections else JobSpec.SECTIONS
        close = difflib.get_close_matches(name, known, 1) or _home(name)
        return "is no option" + (f"; did you mean {close[0]}?" if close else "")
    text = fault["msg"].removeprefix("Value error, ")
    return text[0].lower() + text[1:] if text.startswith(("Input ", "String ")) else text


def _home(name: str) -> list[str]:
    """Where an option belongs that stands in the wrong section."""
    return [
        f"{section}.{name}"
        for section, kind in JobSpec.SECTIONS.items()
        if name in kind.model_fields
    ]


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False)
