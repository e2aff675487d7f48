"""The launch files: valid for Ray and KubeRay, complete, and in step with each other and with the tested
versions."""

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_command

from raydistill.cluster import join, runtime
from raydistill.errors import ConfigError

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "raydistill/launch"
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
CLUSTERS = ("cluster.yaml", "aws.yaml")
POD = {
    "containers": {"name", "image", "env", "ports", "resources", "volumeMounts"},
    "volumes": {"name", "persistentVolumeClaim"},
}


def load(name: str) -> dict[str, Any]:
    return next(yaml.safe_load_all((LAUNCH / name).read_text()))


def pinned(package: str) -> str:
    return re.findall(rf"^{package}==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]


@pytest.mark.parametrize("name", CLUSTERS)
def test_rays_own_validator_takes_a_cluster_file(name: str) -> None:
    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", CLUSTERS)
def test_rays_own_validator_refuses_a_misspelt_key(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match="setup_command"):
        validate_config(prepare_config(load(name) | {"setup_command": []}))


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_commands_of_a_cluster_file_are_shell_and_stop_nobodys_ray(name: str) -> None:
    commands = [command for kind in COMMANDS for command in load(name).get(kind, [])]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert len(commands) >= 7 and not [command for command in commands if "ray stop" in command]


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_file_ships_package_spaces_and_token_to_every_node(name: str) -> None:
    cluster = load(name)
    sources = set(cluster["file_mounts"].values())
    assert sources == {"wheels", "constraints.txt", "search_spaces", "~/.ray/auth_token"}
    assert all((ROOT / source).exists() for source in sources & {"constraints.txt", "search_spaces"})
    assert any(
        "pip install" in command and "wheels/*.whl" in command for command in cluster["setup_commands"]
    )
    assert any("RAY_AUTH_MODE=token" in command for command in cluster["setup_commands"])


def test_both_cluster_files_set_a_node_up_in_the_same_way() -> None:
    assert load("cluster.yaml")["setup_commands"] == load("aws.yaml")["setup_commands"]


def unknown_pod_fields(template: dict[str, Any]) -> set[str]:
    spec = template["spec"]
    return {key for kind, known in POD.items() for entry in spec[kind] for key in set(entry) - known} | (
        set(spec) - set(POD)
    )


def unknown_fields(job: dict[str, Any]) -> set[str]:
    """Field names that are not those of ray.io/v1 (https://github.com/ray-project/kuberay,
    ray-operator/apis/ray/v1)."""
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    found = set(job) - {"apiVersion", "kind", "metadata", "spec"}
    found |= set(spec) - {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    found |= set(cluster) - {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    found |= set(head) - {"rayStartParams", "template"} | set(cluster["authOptions"]) - {"mode"}
    for group in workers:
        found |= set(group) - {
            "groupName",
            "replicas",
            "minReplicas",
            "maxReplicas",
            "rayStartParams",
            "template",
        }
    return found.union(*(unknown_pod_fields(group["template"]) for group in (head, *workers)))


def test_the_rayjob_has_only_published_field_names() -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob") and unknown_fields(job) == set()
    misspelt = copy.deepcopy(job)
    misspelt["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0][
        "volumeMount"
    ] = []
    assert unknown_fields(misspelt) == {"volumeMount"}


_POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {"spec": {"type": "object", "required": ["containers"]}},
}
_COUNT = {"type": "integer", "minimum": 0}
_START = {"type": "object", "additionalProperties": {"type": "string"}}
RAYJOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["entrypoint", "rayClusterSpec"],
            "properties": {
                "entrypoint": {"type": "string"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": _COUNT,
                "backoffLimit": _COUNT,
                "rayClusterSpec": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "authOptions": {"properties": {"mode": {"enum": ["token", "disabled"]}}},
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["rayStartParams", "template"],
                            "properties": {"rayStartParams": _START, "template": _POD},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": [
                                    *("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template")
                                ],
                                "properties": {
                                    **dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), _COUNT),
                                    **{"groupName": {"type": "string"}, "rayStartParams": _START},
                                    "template": _POD,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""What the types of ray.io/v1 demand (ray-project/kuberay, ray-operator/apis/ray/v1/rayjob_types.go and
raycluster_types.go): fields without omitempty are required. We add name and entrypoint, which a job needs."""


def test_the_rayjob_has_the_fields_and_types_that_kuberay_demands() -> None:
    job = load("rayjob.yaml")
    jsonschema.validate(job, RAYJOB)
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for change in ({"minReplicas": "2"}, {"rayStartParams": {"num-cpus": 8}}, {"template": {}}):
        wrong = copy.deepcopy(job)
        wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0] |= change
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, RAYJOB)


def test_every_pod_of_the_rayjob_has_the_same_image_the_store_and_its_requests_as_limits() -> None:
    job = load("rayjob.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    claims = {volume["persistentVolumeClaim"]["claimName"] for pod in pods for volume in pod["volumes"]}
    (_, claim) = yaml.safe_load_all((LAUNCH / "rayjob.yaml").read_text())
    assert claims == {claim["metadata"]["name"]} and claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert all(
        mount["mountPath"] == "/shared" for container in containers for mount in container["volumeMounts"]
    )
    assert "--store /shared/" in job["spec"]["entrypoint"]
    for container in containers:
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_kubernetes_and_the_image_have_the_tested_ray() -> None:
    assert load("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")
    assert f"rayproject/ray:{pinned('ray')}-py311" in (LAUNCH / "Dockerfile").read_text()


def test_the_slurm_script_is_bash_and_asks_for_its_resources_before_its_first_command() -> None:
    subprocess.run(["bash", "-n", str(LAUNCH / "slurm.sh")], check=True)
    lines = (LAUNCH / "slurm.sh").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash" and len(asked) >= 6 and max(asked) < first


SBATCH = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "gpus-per-task": r"(\w+:)?\d+",
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
    "signal": r"(B:)?[A-Z]+(@\d+)?",
    "output": r"\S+",
}
"""Options of sbatch that the script asks for -> what it may give (https://slurm.schedmd.com/sbatch.html)."""


def directives(text: str) -> dict[str, str]:
    """Option -> value of the lines that sbatch reads, and of those that wait for a `#` to be taken off."""
    lines = re.findall(r"^##?SBATCH (.*)$", text, re.MULTILINE)
    parsed = [re.fullmatch(r"--([a-z-]+)=(\S+)", line) for line in lines]
    assert all(parsed), lines
    return {match[1]: match[2] for match in parsed if match is not None}


def test_the_slurm_script_asks_for_options_that_sbatch_has() -> None:
    asked = directives((LAUNCH / "slurm.sh").read_text())
    assert asked.keys() == SBATCH.keys()
    assert all(re.fullmatch(SBATCH[option], value) for option, value in asked.items()), asked
    assert asked["ntasks-per-node"] == "1"  # one Ray node on each machine
    assert asked["signal"].startswith("B:TERM@"), "the shell, not the steps, is told before the time is over"


def test_the_cluster_page_names_files_and_commands_that_exist() -> None:
    page = (ROOT / "docs/how-to/cluster.md").read_text()
    files = set(re.findall(r"`([\w.-]+\.(?:sh|yaml)|Dockerfile)`", page))
    assert files == {"cluster.yaml", "aws.yaml", "rayjob.yaml", "slurm.sh", "Dockerfile"}
    assert all((LAUNCH / name).is_file() for name in files)
    used = set(re.findall(r"(?:^|`|: )ray ([a-z-]+)", page, re.MULTILINE))
    assert (
        {"up", "submit", "exec", "job", "rsync-down", "get-auth-token", "dashboard"}
        <= used
        <= set(ray_command.commands)
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "127.0.0.1:1",
            "RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers there .nothing in 1 s at .*:1.; start it, "
            "give HEAD:6379",
        ),
        ("head", "RAY_ADDRESS=head: no Ray cluster answers there .Invalid address format: head."),
        (
            "http://127.0.0.1:8265",
            "a sweep joins its cluster from one of the cluster's machines; give HEAD:6379, or auto on the "
            "head",
        ),
    ],
)
def test_an_address_where_no_cluster_answers_is_wrong_input(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(join, "_JOIN_SEC", 1)
    with pytest.raises(ConfigError, match=message):
        runtime.start_ray(dashboard=False)
