"""Specification files: reading TOML into a ``JobSpec``, and writing an example."""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from restyle.core.errors import SpecError
from restyle.core.files import folder_of, read_toml
from restyle.jobs.spec.job_spec import JobSpec
from restyle.pipeline.storage.filesystem import absolute_path, local_path

Given = Mapping[tuple[str, str], Any]
"""Values from the command line by section and name of a field."""

_WIDTH = 100
_PATHS = (
    ("input", "source"),
    ("input", "landmarks"),
    ("output", "out"),
    ("model", "name"),
    ("model", "bootstrap"),
    ("inversion", "identity_weights"),
)


def read_spec(path: Path | None, given: Given, names: Mapping[tuple[str, str], str]) -> JobSpec:
    """Read a specification and apply the command line to it.

    Relative paths in the file are resolved against its folder, those of the command line and of a
    pipe against the working directory.

    Args:
        path: the file; None for the command line alone.
        given: values of the command line, which override the file.
        names: names of the fields on the command line.

    Raises:
        SpecError: the file cannot be read, is not TOML, or has wrong values; the message names
            all faults.
    """
    values = {} if path is None else _anchored(_read(path), path)
    for (section, name), value in given.items():
        part = values.setdefault(section, {})
        # Otherwise the validation below reports the fault.
        if isinstance(part, dict):
            part[name] = value
    try:
        return JobSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(_faults(error, path, given, names)) from None


def example() -> str:
    """A specification with description and default of every option, and required ones set."""
    parts = ["# A job for: restyle invert --spec FILE, or on a cluster: restyle submit FILE\n"]
    for section, kind in JobSpec.SECTIONS.items():
        parts.append(f"\n# {kind.__doc__}\n[{section}]\n")
        for name, field in kind.model_fields.items():
            parts.append(_documented(name, field))
    return "".join(parts)


def _documented(name: str, field: FieldInfo) -> str:
    """Comment and line of one option; optional ones are commented out."""
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
    """The allowed words of an option; empty if it is not a choice."""
    return tuple(
        str(choice)
        for choice in getattr(field.annotation, "__args__", ())
        if isinstance(choice, str)
    )


def _read(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path):
        raise SpecError(
            f"{path} does not exist; 'restyle spec init {path}' writes one to start from"
        )
    return read_toml(path)


def _anchored(values: dict[str, Any], path: Path) -> dict[str, Any]:
    for section, name in _PATHS:
        part = values.get(section)
        value = part.get(name) if isinstance(part, dict) else None
        if not isinstance(value, str) or not value or local_path(value) != value:
            continue
        # A model without a slash is a name such as faces64, unless it is a checkpoint file.
        if section == "model" and "/" not in value and not value.endswith(".pt"):
            continue
        # Not Path.expanduser, which raises for an unknown user.
        anchored = Path(folder_of(path), os.path.expanduser(value))  # noqa: PTH111
        values[section] = {**values[section], name: absolute_path(str(anchored))}
    return values


def _faults(
    error: ValidationError, path: Path | None, given: Given, names: Mapping[tuple[str, str], str]
) -> str:
    """All faults in one line, with names of options or sections."""
    faults: dict[str, None] = {}
    missing = []
    for fault in error.errors(include_url=False, include_input=False):
        field = tuple(str(part) for part in fault["loc"][:2])
        if path is None and fault["type"] == "missing":
            missing += [name for key, name in names.items() if key[: len(field)] == field]
        elif len(field) == 2 and field in given:
            faults[f"{names[field[0], field[1]]}: {_message(fault)}"] = None
        else:
            faults[f"{path}: {'.'.join(field)} {_message(fault)}"] = None
    missing = [name for name in missing if name in ("INPUT", "--out")]
    for name in missing:
        kind = "option" if name.startswith("-") else "argument"
        faults[f"Missing {kind} '{name}' (or give --spec)"] = None
    return "; ".join(faults)


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "string_unicode":
        return "holds bytes that are not text in UTF-8; rename what it names"
    if fault["type"] == "extra_forbidden":
        *sections, name = (str(part) for part in fault["loc"])
        valid = JobSpec.SECTIONS[sections[0]].model_fields if sections else JobSpec.SECTIONS
        close = difflib.get_close_matches(name, valid, 1) or _other_sections(name)
        return "is no option" + (f"; did you mean {close[0]}?" if close else "")
    text = fault["msg"].removeprefix("Value error, ")
    return text[0].lower() + text[1:] if text.startswith(("Input ", "String ")) else text


def _other_sections(name: str) -> list[str]:
    """Qualified names of an option that is in the wrong section."""
    return [
        f"{section}.{name}"
        for section, kind in JobSpec.SECTIONS.items()
        if name in kind.model_fields
    ]


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False)
