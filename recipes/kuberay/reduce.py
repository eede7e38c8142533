"""Reduce a CRD of KubeRay to the fields that are the operator's own.

``python -m recipes.kuberay.reduce ray.io_raycronjobs.yaml`` prints what is in
``tests/ops/schemas/kuberay.yaml`` behind the first comment. The CRD is that of the operator's Helm
chart, in ``crds/``: 800 kB, nearly all of it Kubernetes' own types, inlined by the generator.
They become references to the published schemas of these types.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

_CORE = "kubernetes#io.k8s.api.core.v1."
_NETWORKING = "kubernetes#io.k8s.api.networking.v1."

INLINED = {
    "headService": _CORE + "Service",
    "securityContext": _CORE + "SecurityContext",
    "size": "kubernetes#io.k8s.apimachinery.pkg.api.resource.Quantity",
    "submitterPodTemplate": _CORE + "PodTemplateSpec",
    "template": _CORE + "PodTemplateSpec",
    "valueFrom": _CORE + "EnvVarSource",
}
"""Kubernetes' type of each field that has one."""

INLINED_ITEMS = {
    "egressRules": _NETWORKING + "NetworkPolicyEgressRule",
    "env": _CORE + "EnvVar",
    "envFrom": _CORE + "EnvFromSource",
    "ingressRules": _NETWORKING + "NetworkPolicyIngressRule",
    "tls": _NETWORKING + "IngressTLS",
    "volumeMounts": _CORE + "VolumeMount",
}
"""The type of the entries of each field that is a list of them."""

KINDS = {"RayCluster": "RayClusterSpec", "RayCronJob": "RayCronJobSpec", "RayJob": "RayJobSpec"}
_PARTS = {"jobTemplate": "RayJobSpec", "rayClusterSpec": "RayClusterSpec"}


def reduce(crd: dict[str, Any]) -> dict[str, Any]:
    """Return the kinds and the schemas of their specifications.

    Args:
        crd: the CustomResourceDefinition of RayCronJob, which contains the others.
    """
    (version,) = (each for each in crd["spec"]["versions"] if each["name"] == "v1")
    parts: dict[str, Any] = {}
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    parts["RayCronJobSpec"] = _reduced(spec, parts)
    return {"kinds": KINDS, "schemas": parts}


def _reduced(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    kept = {name: each for name, each in schema.items() if name != "description"}
    if "properties" in kept:
        kept["properties"] = {
            name: _field(name, each, parts) for name, each in kept["properties"].items()
        }
    if isinstance(kept.get("items"), dict):
        kept["items"] = _reduced(kept["items"], parts)
    if rules := kept.get("x-kubernetes-validations"):
        kept["x-kubernetes-validations"] = [{"rule": rule["rule"]} for rule in rules]
    return kept


def _field(name: str, schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    if name in _PARTS:
        parts[_PARTS[name]] = _reduced(schema, parts)
        return {"$ref": f"#/schemas/{_PARTS[name]}"}
    if name in INLINED:
        return {"$ref": INLINED[name]}
    if (
        name == "resources" and "properties" in schema
    ):  # Without, they are Ray's: names and numbers.
        return {"$ref": _CORE + "ResourceRequirements"}
    if name in INLINED_ITEMS:
        return {"items": {"$ref": INLINED_ITEMS[name]}, "type": "array"}
    return _reduced(schema, parts)


if __name__ == "__main__":
    loaded = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    yaml.safe_dump(reduce(loaded), sys.stdout, sort_keys=True)
