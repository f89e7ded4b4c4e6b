"""What a setting is when nobody sets it: the addresses that documents, compose files and people rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.settings import GatewaySettings
from manager.settings import ManagerSettings
from monitor.settings import MonitorSettings
from shared.settings import BaseServiceSettings
from tests.house.requirements import ROOT
from worker.settings import WorkerSettings

PORTS = [
    (GatewaySettings, "gateway_port", 8000),
    (WorkerSettings, "worker_port", 3008),
    (ManagerSettings, "manager_port", 3009),
    (MonitorSettings, "monitor_port", 3010),
]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "OLLAMA_BASE_URL", "OLLAMA_BASE_URLS", *(port.upper() for _, port, _ in PORTS)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.req("C14", "S1-16", "S1-17", "S1-18")
@pytest.mark.parametrize(("settings", "name", "port"), PORTS)
def test_each_service_has_its_port(settings: type[BaseServiceSettings], name: str, port: int) -> None:
    assert getattr(settings(), name) == port


@pytest.mark.req("C3", "C30", "S1-78")
def test_redis_and_ollama_are_on_this_machine_and_in_compose_have_names() -> None:
    settings = WorkerSettings()
    assert settings.redis_url == "redis://localhost:6379/9"
    assert settings.ollama_base_urls == ["http://localhost:11434"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["x-settings"]["REDIS_URL"] == "redis://redis:6379/9"
    assert "http://ollama:11434" in compose["x-settings"]["OLLAMA_BASE_URLS"]


@pytest.mark.req("C14", "C29")
def test_compose_publishes_no_worker_port_and_starts_nothing_unused() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert "ports" not in services["worker"] and "container_name" not in services["worker"]
    assert not [name for name, service in services.items() if "kafka" in f"{name} {service.get('image', '')}"]
