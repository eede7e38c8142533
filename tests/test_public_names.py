"""The public names are complete, documented and annotated; the former names of the rooms warn."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import restyle

ROOT = Path(__file__).resolve().parents[1]
STUBS = {
    "restyle": ROOT / "restyle" / "__init__.pyi",
    "restyle.core": ROOT / "restyle_core" / "__init__.pyi",
    "restyle.pipeline": ROOT / "pipeline" / "__init__.pyi",
}
FUNCTIONS = {
    "load_model", "align_faces", "invert", "read_latents", "query", "invert_images", "edit",
    "latent_reader", "latent_table", "latent_frame", "map_latents",
}  # fmt: skip


def declared(package: str) -> dict[str, str]:
    """The names of a stub, and the modules that they come from."""
    tree = ast.parse(STUBS[package].read_text(encoding="utf-8"))
    return {
        alias.name: f"{package}.{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", STUBS)
def test_a_package_has_the_names_of_its_stub(package: str) -> None:
    module, homes = importlib.import_module(package), declared(package)
    assert homes
    assert sorted(module.__all__) == sorted(homes) == dir(module)
    for name, home in homes.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", STUBS)
def test_a_stub_exports_what_it_imports(package: str) -> None:
    tree = ast.parse(STUBS[package].read_text(encoding="utf-8"))
    (names,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert names == sorted(declared(package))


def test_the_promised_functions_are_public() -> None:
    assert set(restyle.__all__) >= FUNCTIONS


@pytest.mark.parametrize("name", restyle.__all__)
def test_a_public_name_is_documented_and_annotated(name: str) -> None:
    value = getattr(restyle, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        annotations = [signature.return_annotation]
        annotations += [each.annotation for each in signature.parameters.values()]
        assert inspect.Signature.empty not in annotations


def test_the_types_of_a_public_function_are_public() -> None:
    needed = set()
    for name in FUNCTIONS:
        function = getattr(restyle, name)
        signature = inspect.signature(function)
        annotations = [each.annotation for each in signature.parameters.values()]
        for annotation in [*annotations, signature.return_annotation]:
            for node in ast.walk(ast.parse(str(annotation))):
                value = function.__globals__.get(getattr(node, "id", None))
                if isinstance(value, type) and value.__module__.startswith("restyle."):
                    needed.add(value.__name__)
    assert needed >= {"Model", "Face", "Framing", "Request", "Outcome", "EditRequest", "Listener"}
    assert needed <= set(restyle.__all__)


@pytest.mark.parametrize(
    ("former", "name", "public"),
    [
        ("kernels", "restyle.kernels", []),
        ("restyle_core", "restyle.core", ["load_model", "RestyleError", "align_faces"]),
        ("pipeline", "restyle.pipeline", ["read_latents"]),
        ("jobs", "restyle.jobs", []),
    ],
)
def test_a_former_name_warns_and_works(former: str, name: str, public: list[str]) -> None:
    code = f"""
import importlib, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import {former}
(warning,) = caught
assert warning.category is DeprecationWarning, warning
assert warning.filename == "<string>" and warning.lineno == 5, warning
print(warning.message)
for each in {public}:
    assert getattr({former}, each) is getattr(importlib.import_module("{name}"), each)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"import {name} instead of {former}, which version 0.3 will not have\n"


@pytest.mark.parametrize("name", ["restyle", *STUBS, "restyle.kernels", "restyle.jobs.cli"])
def test_a_present_name_does_not_warn(name: str) -> None:
    code = f"import {name}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
