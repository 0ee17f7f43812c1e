"""The files in configs/cluster hold what Ray's launcher and the KubeRay operator accept."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

_ROOT = Path(__file__).parents[2]
_FILES = _ROOT / "configs" / "cluster"
_PAGE = _ROOT / "docs" / "cluster.md"


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_TRUTH = {"type": "boolean"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}  # rayStartParams: no numbers
_QUANTITIES = _object("cpu memory", cpu=_TEXT, memory=_TEXT)
_POD = _object(
    "containers",
    containers=_list(
        _object(
            "name image resources",
            name=_TEXT,
            image=_TEXT,
            env=_list(_object("name value", name=_TEXT, value=_TEXT)),
            ports=_list(_object("containerPort", containerPort=_COUNT, name=_TEXT)),
            resources=_object("requests limits", requests=_QUANTITIES, limits=_QUANTITIES),
            volumeMounts=_list(
                _object("name mountPath", name=_TEXT, mountPath=_TEXT, readOnly=_TRUTH)
            ),
        )
    ),
    volumes=_list(
        _object(
            "name",
            name=_TEXT,
            persistentVolumeClaim=_object("claimName", claimName=_TEXT, readOnly=_TRUTH),
        )
    ),
)
_TEMPLATE = _object("spec", spec=_POD)
_GROUP = _object(
    "groupName rayStartParams template",
    groupName=_TEXT,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    rayStartParams=_TEXTS,
    template=_TEMPLATE,
)
_CLUSTER = _object(
    "headGroupSpec workerGroupSpecs rayVersion",
    rayVersion=_TEXT,
    authOptions=_object("mode", mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    headGroupSpec=_object("template rayStartParams", rayStartParams=_TEXTS, template=_TEMPLATE),
    workerGroupSpecs=_list(_GROUP),
)
_JOB = _object(
    "entrypoint rayClusterSpec",
    entrypoint=_TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    shutdownAfterJobFinishes=_TRUTH,
    ttlSecondsAfterFinished=_COUNT,
    backoffLimit=_COUNT,
    rayClusterSpec=_CLUSTER,
)
"""What KubeRay's v1 resources say of the fields that are used here."""


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_object("name", name=_TEXT),
        spec=spec,
    )


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((_FILES / name).read_text())
    return loaded


def test_ray_accepts_the_file_of_its_launcher() -> None:
    path = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(_load("ray-cluster.yaml"), json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("name", "kind", "spec"),
    [
        ("kuberay-cluster.yaml", "RayCluster", _CLUSTER),
        ("kuberay-job.yaml", "RayJob", _JOB),
    ],
)
def test_kuberay_accepts_its_manifests(name: str, kind: str, spec: dict[str, Any]) -> None:
    jsonschema.validate(_load(name), _resource(kind, spec))


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_pods_mount_volumes_that_they_have(name: str) -> None:
    spec = _load(name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        mounted = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


def test_the_clusters_have_the_processors_that_their_runs_take() -> None:
    """Three actors and the server."""
    for name in ("kuberay-cluster.yaml", "kuberay-job.yaml"):
        text = (_FILES / name).read_text()
        spec = _load(name)["spec"]
        groups = spec.get("rayClusterSpec", spec)["workerGroupSpecs"]
        has = sum(g["replicas"] * int(g["rayStartParams"]["num-cpus"]) for g in groups)
        (actors,) = {int(number) for number in re.findall(r"actors=(\d+)", text)}
        assert has == actors + 1


def test_versions_are_those_that_are_tested() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)", (_ROOT / "constraints.txt").read_text(), re.M))
    for path in _FILES.iterdir():
        found = re.findall(r'(?:rayVersion: "|Ray |ray\[default\]==)(\d[\d.]*\d)', path.read_text())
        assert set(found) == {pinned["ray"]}, path.name


def test_the_page_names_every_file_and_its_links_lead_somewhere() -> None:
    text = _PAGE.read_text()
    assert [path.name for path in _FILES.iterdir() if path.name not in text] == []
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (_PAGE.parent / link).exists()] == []


def test_nodes_get_what_the_project_depends_on() -> None:
    commands = " ".join(yaml.safe_load((_FILES / "ray-cluster.yaml").read_text())["setup_commands"])
    project = (_ROOT / "pyproject.toml").read_text()
    listed = project.split("dependencies = [")[1].split("]")[0]
    needed = re.findall(r'^    "([a-z0-9-]+)>=', listed, re.M)
    assert "torch" in needed
    assert [name for name in needed if name not in re.findall(r"[a-z0-9-]+", commands)] == []
