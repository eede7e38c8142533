"""Files for Ray's launcher, checked offline as it checks them, and against what they promise."""

from __future__ import annotations

import copy
import json
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
import ray.autoscaler._private
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.command import ROOT

CLOUDS = {"aws": "cluster.yaml", "azure": "ops/cluster-azure.yaml", "gcp": "ops/cluster-gcp.yaml"}
"""The file for each of the launcher's providers."""


@pytest.fixture(params=CLOUDS)
def config(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, Any]:
    def offline(*arguments: object) -> None:
        raise AssertionError("the check of a file reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", offline)
    text = (ROOT / CLOUDS[request.param]).read_text(encoding="utf-8")
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(text))
    assert prepared["provider"]["type"] == request.param
    return prepared


def is_spot(node: dict[str, Any]) -> bool:
    """Whether a provider's settings ask for what may be taken away, each in its own words."""
    return (
        node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        or {"preemptible": True} in node.get("scheduling", [])
        or node.get("azure_arm_parameters", {}).get("priority") == "Spot"
    )


@pytest.fixture
def nodes(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["available_node_types"]
    return found


def test_the_launcher_accepts_it(config: dict[str, Any]) -> None:
    validate_config(config)


@pytest.mark.parametrize("spoil", ["head_node_type", "resources", "unknown", "min_workers"])
def test_the_check_finds_faults(config: dict[str, Any], spoil: str) -> None:
    bad = copy.deepcopy(config)
    worker = bad["available_node_types"]["invert"]
    match spoil:
        case "head_node_type":
            bad["head_node_type"] = "nobody"
        case "resources":
            worker["resources"] = {"GPU": "one"}
        case "unknown":
            worker["resourcs"] = {}
        case "min_workers":
            worker["min_workers"] = bad["max_workers"] + 1
    with pytest.raises(Exception, match=r"(?s).+"):
        validate_config(bad)


def test_the_head_computes_nothing(config: dict[str, Any], nodes: dict[str, Any]) -> None:
    head = nodes[config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    # Whoever reaches the job server runs what he likes.
    (start,) = (line for line in config["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in start


def test_alignment_has_cpus_and_inversion_gpus_and_neither_the_others(
    nodes: dict[str, Any],
) -> None:
    cpu, gpu = nodes["align"]["resources"], nodes["invert"]["resources"]
    assert cpu["CPU"] == cpu["align"] > 0
    assert "GPU" not in cpu
    assert gpu["GPU"] >= 1
    assert gpu.get("CPU") == 0
    assert "align" not in gpu


def test_gpus_are_spot_and_scale_from_zero(config: dict[str, Any], nodes: dict[str, Any]) -> None:
    gpu = nodes["invert"]
    for node in (gpu, nodes["align"]):
        assert is_spot(node["node_config"])
    assert not is_spot(nodes[config["head_node_type"]]["node_config"])
    assert gpu["min_workers"] == 0 < gpu["max_workers"]
    assert not config["provider"]["cache_stopped_nodes"]
    workers = [node for name, node in nodes.items() if name != config["head_node_type"]]
    assert sum(node["max_workers"] for node in workers) <= config["max_workers"]


def test_the_images_hold_the_ray_that_is_asked_for(
    config: dict[str, Any], nodes: dict[str, Any]
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [Requirement(line) for line in project["dependencies"]]
    (ray,) = (each for each in requirements if each.name == "ray")
    for image in (config["docker"]["image"], nodes["invert"]["docker"]["worker_image"]):
        version, python, *_ = image.partition(":")[2].split("-")
        assert version in ray.specifier
        minor = int(python.removeprefix("py3"))
        assert f"3.{minor}" in Requirement(f"x{project['requires-python']}").specifier


def test_what_setup_installs_is_there(config: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = " ".join(config["setup_commands"] + config["head_setup_commands"])
    assert "'.[cluster]'" in commands
    assert "cluster" in project["optional-dependencies"]
    assert config["file_mounts"] == {"/home/ray/restyle": "."}
    assert (ROOT / "constraints.txt").is_file()


def test_the_machines_are_such_as_the_provider_takes(
    config: dict[str, Any], nodes: dict[str, Any]
) -> None:
    """By what Ray's own modules for the provider read, not by the cloud's catalogue."""
    folder = Path(ray.autoscaler._private.__file__).parent
    for node in nodes.values():
        settings = node["node_config"]
        match config["provider"]["type"]:
            case "aws":
                assert settings["InstanceType"]
            case "gcp":
                assert not {"acceleratorType", "acceleratorConfig"} & settings.keys()
                assert settings["machineType"]
            case "azure":
                template = json.loads((folder / "_azure" / "azure-vm-template.json").read_text())
                assert settings["azure_arm_parameters"].keys() <= template["parameters"].keys()


def test_the_clouds_differ_in_their_machines_only() -> None:
    files = {
        cloud: yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        for cloud, name in CLOUDS.items()
    }
    own = {"auth", "provider", "setup_commands", "head_setup_commands"}
    kept = [{key: each[key] for key in each.keys() - own} for each in files.values()]
    for each in kept:
        for node in each["available_node_types"].values():
            del node["node_config"]
    assert all(each == kept[0] for each in kept)
