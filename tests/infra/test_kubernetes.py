"""The Kubernetes manifests, rendered by `kubectl` or `kustomize` where one is here, and what they must say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from tests.house.requirements import ROOT
from worker.settings import WorkerSettings

KUBERNETES = ROOT / "infra" / "kubernetes"
FOLDERS = ("base", "overlays/trial", "overlays/production")
SERVICES = {"gateway": 8000, "worker": 3008, "manager": 3009, "monitor": 3010}
Manifest = Mapping[str, Any]


def renderer() -> list[str] | None:
    """The command that renders a kustomization, if this machine has one."""
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            return command
    return None


@cache
def rendered(folder: str) -> list[Manifest]:
    command = renderer()
    if command is None:
        pytest.skip("needs kubectl or kustomize")
    done = subprocess.run([*command, str(KUBERNETES / folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def sources() -> Iterator[tuple[Path, Manifest]]:
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            yield path, manifest


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in kinds}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    workloads = of_kind(manifests, "Deployment", "StatefulSet")
    return {name: workload["spec"]["template"] for name, workload in workloads.items()}


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def test_every_file_that_a_kustomization_names_is_there_and_none_is_forgotten() -> None:
    """Needs no kubectl: it follows the names, and understands nothing of patches."""
    named: set[Path] = set()
    for path, manifest in sources():
        if path.name != "kustomization.yaml":
            continue
        for name in [*manifest.get("resources", []), *manifest.get("components", [])]:
            target = (path.parent / name).resolve()
            assert target.exists(), f"{path}: {name}"
            named.add(target)
        for generator in manifest.get("configMapGenerator", []):
            assert all((path.parent / name).is_file() for name in generator.get("files", [])), path
    files = {path.resolve() for path, _ in sources() if path.name != "kustomization.yaml"}
    assert files <= named


def test_redis_is_configured_as_in_compose() -> None:
    # kustomize reads nothing outside its own folder.
    copy = KUBERNETES / "components" / "redis" / "redis.conf"
    assert copy.read_text() == (ROOT / "infra" / "redis" / "redis.conf").read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_renders_with_all_services(folder: str) -> None:
    manifests = rendered(folder)
    assert set(of_kind(manifests, "Deployment")) >= set(SERVICES)
    ports = {name: one["spec"]["ports"][0]["port"] for name, one in of_kind(manifests, "Service").items()}
    assert ports.items() >= SERVICES.items()
    assert {one["metadata"].get("namespace", "arriero") for one in manifests} == {"arriero"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_confined_as_the_restricted_standard_asks(folder: str) -> None:
    for name, pod in pods(rendered(folder)).items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            allowed = container["securityContext"]
            assert allowed["allowPrivilegeEscalation"] is False, name
            assert allowed["readOnlyRootFilesystem"] is True, name
            assert allowed["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_probes_ask_the_health_pages_and_a_stop_leaves_time_to_drain() -> None:
    templates = pods(rendered("base"))
    drains_s = {
        "gateway": GatewaySettings.model_fields["drain_timeout"].default,
        "worker": WorkerSettings.model_fields["worker_drain_timeout"].default,
    }
    for name, pod in templates.items():
        [container] = pod["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
        assert container["ports"][0]["containerPort"] == SERVICES[name]
        assert pod["spec"]["terminationGracePeriodSeconds"] > drains_s.get(name, 0)


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_find_pods(folder: str) -> None:
    """A selector that nothing matches is the commonest fault in manifests, and no schema sees it."""
    manifests = rendered(folder)
    labels = [pod["metadata"]["labels"] for pod in pods(manifests).values()]
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "Service":
            wanted = [spec["selector"]]
        elif one["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            wanted = [spec["selector"]["matchLabels"]]
        elif one["kind"] == "NetworkPolicy":
            peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
            selectors = [spec["podSelector"], *(peer["podSelector"] for peer in peers if "podSelector" in peer)]
            wanted = [selector.get("matchLabels", {}) for selector in selectors]
        else:
            continue
        for selector in wanted:
            assert any(selector.items() <= pod.items() for pod in labels), f"{one['kind']} {one['metadata']['name']}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_pod_reads_is_made_here_or_is_a_documented_secret(folder: str) -> None:
    manifests = rendered(folder)
    config_maps = set(of_kind(manifests, "ConfigMap"))
    guide = (ROOT / "docs" / "deployment.md").read_text()
    for pod in pods(manifests).values():
        mounted = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        for container in containers(pod):
            assert {source["configMapRef"]["name"] for source in container.get("envFrom", [])} <= config_maps
            claims = {mount["name"] for mount in container.get("volumeMounts", [])} - mounted
            assert claims <= {"data"}  # of a StatefulSet's volumeClaimTemplates
        for volume in pod["spec"].get("volumes", []):
            if "secret" in volume:
                assert f"create secret generic {volume['secret']['secretName']} " in guide


def test_keda_scales_the_workers_and_nothing_else_says_how_many() -> None:
    manifests = rendered("overlays/production")
    [scaler] = of_kind(manifests, "ScaledObject").values()
    worker = of_kind(manifests, "Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in worker["spec"]
    assert scaler["spec"]["minReplicaCount"] >= 1
    [trigger] = scaler["spec"]["triggers"]
    assert float(trigger["metadata"]["threshold"]) == WorkerSettings.model_fields["worker_concurrency"].default
    assert '{state=~"queued|running"}' in trigger["metadata"]["query"]
