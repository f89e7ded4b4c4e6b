"""Which services are in force, and which one bare names are at."""

from __future__ import annotations

from typing import Any

import pytest

from shared.services.config import ServiceConfig
from shared.services.registry import Registry

KEY = "sk-cloud-0123456789abcdef"


def service(name: str, **fields: Any) -> ServiceConfig:
    return ServiceConfig.model_validate({"name": name} | fields)


OLLAMA, STUDIO = service("ollama"), service("lm_studio")
OPENAI, KEYLESS = service("openai", api_key=KEY), service("openrouter")


def names(registry: Registry) -> list[str]:
    return [one.name for one in registry.all()]


@pytest.mark.req("C6", "S2-01", "S2-30", "S2-37", "S3-22", "S3-31")
def test_a_cloud_service_exists_with_a_key_and_never_in_airgap_mode() -> None:
    configured = [OLLAMA, OPENAI, KEYLESS, service("jan", enabled=False)]
    registry = Registry(configured)
    assert names(registry) == ["ollama", "openai"]
    assert [one.name for one in registry.local()] == ["ollama"]
    assert registry.summary == {"ours": ["ollama"], "cloud": ["openai"], "default": "ollama"}
    reasons = {off.name: off.reason for off in registry.off}
    assert "Set OPENROUTER_API_KEY" in reasons["openrouter"]
    assert "switched off" in reasons["jan"]
    airgapped = Registry(configured, airgap=True)
    assert names(airgapped) == ["ollama"]
    assert airgapped.get("openai") is None
    airgapped.take({"late": service("late", api_format="openai", urls=["https://x/v1"], api_key=KEY)}, "")
    assert names(airgapped) == ["ollama"]


@pytest.mark.req("C20", "S3-22")
@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("http://10.1.2.3:1234/v1", True), ("http://[fd00::1]:1/v1", True), ("http://studio:1234/v1", True),
        ("http://gpu.internal/v1", True), ("http://box.local/v1", True), ("https://sells-llms.example/v1", False),
        ("http://8.8.8.8/v1", False),
    ],
)  # fmt: skip
def test_software_that_is_usually_ours_is_so_only_where_it_must_be(url: str, is_ours: bool) -> None:
    studio = service("lm_studio", urls=[url])
    assert studio.local is is_ours
    assert Registry([studio]).off == () or "local: true" in Registry([studio]).off[0].reason
    assert service("lm_studio", urls=[url], local=True).local
    assert service("ollama", urls=[url]).local


@pytest.mark.req("C5", "S2-15", "S2-33", "S3-29", "S4-52")
@pytest.mark.parametrize(
    ("default", "configured", "chosen"),
    [
        ("ollama", [OPENAI, OLLAMA], "ollama"),
        ("openai", [OLLAMA, OPENAI], "openai"),
        ("auto", [OPENAI, STUDIO, OLLAMA], "lm_studio"),
        ("openrouter", [OPENAI, OLLAMA, KEYLESS], "ollama"),
        ("ollama", [OPENAI], "openai"),
        ("ollama", [], "ollama"),
    ],
)
def test_a_bare_name_is_at_the_default_service_or_the_first_of_ours(
    default: str, configured: list[ServiceConfig], chosen: str
) -> None:
    assert Registry(configured, default=default).default_service == chosen


@pytest.mark.req("S4-11", "S2-32")
def test_what_comes_at_run_time_neither_replaces_nor_precedes_what_is_configured() -> None:
    registry = Registry([OLLAMA, STUDIO])
    version = registry.version
    impostor = service("ollama", urls=["http://elsewhere:1"])
    registry.take({"ollama": impostor, "jan": service("jan")}, "jan")
    assert names(registry) == ["ollama", "lm_studio", "jan"]
    assert registry.get("ollama") == OLLAMA
    assert registry.default_service == "jan"
    assert registry.version > version
    version = registry.version
    registry.take({"jan": service("jan")}, "")
    assert (registry.version, registry.default_service) == (version, "ollama"), "the same services"
    registry.take({}, "jan")
    assert (names(registry), registry.default_service) == (["ollama", "lm_studio"], "ollama")
