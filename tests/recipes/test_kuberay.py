"""The recipe that reduces KubeRay's CRD, and the reduced schema that the project keeps."""

from __future__ import annotations

from typing import Any

from recipes.kuberay.reduce import reduce
from tests.ops.manifests import definitions, kuberay


def expanded(node: Any, schemas: dict[str, Any]) -> Any:
    """A schema as the operator's generator writes it: types inlined, with descriptions."""
    if isinstance(node, list):
        return [expanded(each, schemas) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name in schemas:
            return expanded(schemas[name], schemas)
        found = definitions()[node["$ref"].partition("#")[2]]
        return {"description": "Kubernetes' own.", "type": "object", **found}
    whole = {name: expanded(each, schemas) for name, each in node.items()}
    return (
        {"description": "Text.", **whole} if "type" in node and node["type"] == "object" else whole
    )


def test_the_kept_schema_is_what_the_recipe_makes_of_a_whole_one() -> None:
    kept = kuberay()
    spec = expanded(kept["schemas"]["RayCronJobSpec"], kept["schemas"])
    whole = {"openAPIV3Schema": {"properties": {"spec": spec, "status": {"type": "object"}}}}
    crd = {"spec": {"versions": [{"name": "v1", "schema": whole}]}}
    assert reduce(crd) == kept


def test_every_reference_leads_to_a_type() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [found for each in node for found in references(each)]
        if not isinstance(node, dict):
            return []
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for each in node.values() for found in references(each)]

    kept = kuberay()
    found = references(kept)
    assert len(set(found)) > 10
    for reference in found:
        where, _, name = reference.partition("#")
        assert name in definitions() if where else name.rpartition("/")[2] in kept["schemas"]
