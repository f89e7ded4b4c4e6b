"""docker-compose.yml and its overlays: valid by the Compose specification's schema, and as closed as they claim."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from shared.settings import BaseServiceSettings
from tests.house.requirements import ROOT

BASE = ROOT / "docker-compose.yml"
OVERLAYS = sorted((ROOT / "infra" / "compose").glob("*.yml"))
VENDOR = Path(__file__).parent / "vendor"
OURS = {"gateway", "worker", "worker-more", "manager", "monitor", "keys", "arriero", "simulator"}
Service = Mapping[str, Any]


def load(path: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load(path.read_text())
    return document


def services(path: Path = BASE) -> Mapping[str, Service]:
    found: Mapping[str, Service] = load(path)["services"]
    return found


def with_profiles(*profiles: str) -> set[str]:
    """The services that start with these profiles on."""
    return {
        name
        for name, service in services().items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def environment(service: Service) -> Mapping[str, str]:
    found: Mapping[str, str] = service.get("environment", {})
    return found


def aliases(service: Service) -> list[str]:
    found: list[str] = service.get("networks", {}).get("default", {}).get("aliases", [])
    return found


def test_the_schema_is_the_published_one() -> None:
    digest = hashlib.sha256((VENDOR / "compose-spec.json").read_bytes()).hexdigest()
    assert digest in (VENDOR / "README.md").read_text()


@pytest.mark.req("S1-100")
@pytest.mark.parametrize("path", [BASE, *OVERLAYS], ids=lambda path: path.name)
def test_each_file_is_valid_by_the_compose_schema(path: Path) -> None:
    validator = jsonschema_rs.validator_for(json.loads((VENDOR / "compose-spec.json").read_text()))
    faults = [f"{list(error.instance_path)}: {error.message[:200]}" for error in validator.iter_errors(load(path))]
    assert not faults


@pytest.mark.req("S1-100", "S1-101")
def test_podman_compose_reads_them_too() -> None:
    if not shutil.which("podman-compose"):
        pytest.skip("needs podman-compose")
    files = [word for path in (BASE, *OVERLAYS) for word in ("-f", str(path))]
    command = ["podman-compose", *files, "--profile", "scale", "config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"gateway", "worker", "worker-more", "redis"} <= yaml.safe_load(done.stdout)["services"].keys()


@pytest.mark.req("S1-100")
def test_what_starts_by_itself_and_by_profile() -> None:
    always = with_profiles()
    assert always == {"gateway", "worker", "manager", "monitor", "keys", "redis"}
    assert with_profiles("simulator") - always == {"simulator"}
    assert with_profiles("ollama") - always == {"ollama", "ollama-pull"}
    assert with_profiles("gpu") - always == {"ollama-gpu", "ollama-pull"}
    assert with_profiles("monitoring") - always == {"prometheus", "alertmanager", "grafana"}
    assert with_profiles("tools") - always == {"arriero"}


def test_the_dev_and_prod_overlays_change_only_services_that_exist() -> None:
    assert {"dev.yml", "prod.yml"} <= {path.name for path in OVERLAYS}
    for path in OVERLAYS:
        assert services(path).keys() <= services().keys()


@pytest.mark.req("S1-16", "S1-101", "D-05")
def test_workers_can_be_many() -> None:
    """A fixed host port or a container name would let only the first one start."""
    more = services()["worker-more"]
    assert more["profiles"] == ["scale"]
    assert more["deploy"]["replicas"] >= 2
    assert aliases(more) == ["worker"]
    for worker in (services()["worker"], more, services(ROOT / "infra/compose/prod.yml")["worker"]):
        assert not worker.get("ports")
    for name, service in services().items():
        assert "container_name" not in service, name
    [published] = services(ROOT / "infra/compose/dev.yml")["worker"]["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:(\d+)-(\d+):3008", published)


def test_only_the_gateway_is_published_and_only_to_this_machine() -> None:
    published = {name for name in with_profiles() if services()[name].get("ports")}
    assert published == {"gateway"}
    for path in (BASE, *OVERLAYS):
        for name, service in services(path).items():
            for port in service.get("ports", []):
                assert str(port).startswith(("127.0.0.1:", "${GATEWAY_BIND:-127.0.0.1}:")), f"{path.name}: {name}"


def test_containers_are_confined() -> None:
    for name in OURS | {"redis", "prometheus", "alertmanager", "grafana"}:
        service = services()[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
    assert not [name for name in OURS if services()[name].get("cap_add") or services()[name].get("user")]


def test_prod_limits_what_runs_all_the_time() -> None:
    production = services(ROOT / "infra/compose/prod.yml")
    for name in with_profiles() - {"keys"}:
        service = production[name]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert service["restart"] == "always", name
        assert "max-size" in service["logging"]["options"], name


def test_addresses_are_service_names_here_and_localhost_in_the_code() -> None:
    defaults = BaseServiceSettings.model_fields
    assert defaults["redis_url"].default == "redis://localhost:6379/9"
    assert defaults["ollama_base_urls"].get_default(call_default_factory=True) == ["http://localhost:11434"]
    for name in ("gateway", "worker", "worker-more", "manager", "monitor"):
        given = environment(services()[name])
        assert given["REDIS_URL"] == "redis://redis:6379/9"
        assert given["OLLAMA_BASE_URLS"] == "${OLLAMA_BASE_URLS:-http://ollama:11434}"
    for name in ("simulator", "ollama-gpu"):
        assert aliases(services()[name]) == ["ollama"]


def test_secrets_come_as_files_and_are_not_in_the_environment() -> None:
    for name in OURS - {"simulator"}:
        service = services()[name]
        assert environment(service)["REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
        assert "redis_password" in service["secrets"], name
    secret_words = re.compile(r"(PASSWORD|KEY|TOKEN|SECRET)$")
    for path in (BASE, *OVERLAYS):
        for name, service in services(path).items():
            assert not [variable for variable in environment(service) if secret_words.search(variable)], name
    declared = load(BASE)["secrets"]
    assert {secret for service in services().values() for secret in service.get("secrets", [])} == declared.keys()
    # The admin key is with nobody who serves: only with what stores it and what an operator types.
    assert {name for name, service in services().items() if "api_key" in service.get("secrets", [])} == {
        "keys",
        "arriero",
    }


@pytest.mark.req("S3-47")
def test_an_ollama_service_that_pulls_models() -> None:
    pull = services()["ollama-pull"]
    assert pull["profiles"] == ["ollama", "gpu"]
    assert "ollama pull" in pull["command"][0]
    assert environment(pull)["MODELS"].startswith("${OLLAMA_PULL:-")
    assert services()["ollama"]["volumes"] == services()["ollama-gpu"]["volumes"] == ["ollama-models:/models"]
    [device] = services()["ollama-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_files_that_are_mounted_are_there() -> None:
    for name in with_profiles("simulator", "ollama", "gpu", "scale", "tools"):
        for volume in services()[name].get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file(), f"{name}: {source}"


def test_a_stop_leaves_time_to_drain() -> None:
    for name in ("gateway", "worker", "worker-more"):
        assert services()[name]["stop_grace_period"] == "40s"  # DRAIN_TIMEOUT and WORKER_DRAIN_TIMEOUT are 30 s


def test_prometheus_finds_replicas_by_dns_and_has_a_key_for_the_gateway() -> None:
    jobs = {job["job_name"]: job for job in load(ROOT / "infra/prometheus/prometheus.yml")["scrape_configs"]}
    for name, port in {"gateway": 8000, "worker": 3008, "manager": 3009, "monitor": 3010}.items():
        [lookup] = jobs[name]["dns_sd_configs"]
        assert (lookup["names"], lookup["type"], lookup["port"]) == ([name], "A", port)
    assert jobs["gateway"]["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert "metrics_key" in services()["prometheus"]["secrets"]
