"""Services as they are configured: in the environment, in YAML, by a key alone; and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from infra.setup.settings_table import GROUPS
from shared import egress
from shared.lifecycle import ConfigFault, read_settings
from shared.services.config import ServiceConfig
from shared.services.presets import PRESETS
from shared.settings import BaseServiceSettings
from shared.settings_sources import known_names

KEYS = {
    "openai": "sk-proj-0123456789abcdefghij",
    "openrouter": "sk-or-v1-0123456789abcdefghij",
    "anthropic": "sk-ant-api03-0123456789abcdefghij",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*known_names(model for _, model in GROUPS), "arriero_config"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(
    monkeypatch: pytest.MonkeyPatch, model: type[BaseServiceSettings] = BaseServiceSettings, /, **environment: str
) -> BaseServiceSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings(model)


def in_force(settings: BaseServiceSettings) -> list[str]:
    return [service.name for service in settings.new_registry().all()]


@pytest.mark.req("S2-02", "S2-03", "S2-17", "S3-37", "S4-71", "C6")
def test_a_key_alone_switches_its_service_on(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    assert in_force(read(monkeypatch)) == ["ollama"]
    (here / "key").write_text(KEYS["anthropic"] + "\n")
    settings = read(
        monkeypatch, OPENAI_API_KEY=KEYS["openai"], OPENROUTER_API_KEY=KEYS["openrouter"],
        ANTHROPIC_API_KEY_FILE=str(here / "key"), ANTHROPIC_DEFAULT_MODEL="claude-sonnet-4-5", OLLAMA_ENABLED="false",
        DEFAULT_SERVICE="anthropic",
    )  # fmt: skip
    registry = settings.new_registry()
    assert [service.name for service in registry.all()] == ["openai", "openrouter", "anthropic"]
    anthropic = registry.get("anthropic")
    assert anthropic is not None
    assert (anthropic.key, anthropic.default_model) == (KEYS["anthropic"], "claude-sonnet-4-5")
    assert anthropic.urls == (PRESETS["anthropic"].url,)


@pytest.mark.req(
    "S4-52", "S4-55", "S4-56", "S4-57", "S4-58", "S4-59", "S4-60", "S4-61", "S4-62", "S4-63", "S4-71", "S2-18", "C24"
)
def test_an_llm_section_says_it_all(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("TEAM_KEY", "a-key-of-the-team")
    (here / "config.yaml").write_text("""
llm:
  default_service: team
  services:
    ollama:
      urls: [http://gpu1:11434, http://gpu2:11434]
    team:
      api_format: openai
      urls: [https://llm.team.example/v1, https://llm2.team.example/v1]
      api_key_env_var: TEAM_KEY
      upstream: {short_timeout_sec: 3, long_timeout_sec: 1800, verify_cert: false, enable_discovery: false}
      models: [qwen3]
    localai:
    openai: {api_key: sk-proj-0123456789abcdefghij}
""")
    settings = read(monkeypatch)
    assert settings.ollama_base_urls == ["http://gpu1:11434", "http://gpu2:11434"]
    registry = settings.new_registry()
    assert [service.name for service in registry.all()] == ["ollama", "team", "localai", "openai"]
    assert registry.default_service == "team"
    team = registry.get("team")
    assert team is not None
    assert len(team.urls) == 2
    assert (team.key, team.local, team.models) == ("a-key-of-the-team", False, ("qwen3",))
    assert (team.short_timeout_sec, team.long_timeout_sec) == (3, 1800), "seconds, as the name says"
    assert (team.verify_cert, team.enable_discovery) == (False, False)
    assert (team.probe_s(5), ServiceConfig.model_validate({"name": "jan"}).probe_s(7)) == (3, 7)


@pytest.mark.req("C2", "S2-18", "S3-32")
def test_ollamas_hosts_are_one_setting_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, OLLAMA_URL="http://gpu:1", SERVICES='{"ollama": {"verify_cert": false}}')
    [ollama] = settings.configured_services
    assert (ollama.urls, ollama.verify_cert) == (("http://gpu:1",), False)
    with pytest.raises(ConfigFault, match=r"SERVICES\.ollama\.urls: they are one setting"):
        read(monkeypatch, SERVICES='{"ollama": {"urls": ["http://other:1"]}}')


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("PREFERRED_PROVIDER", "default_service"), ("LLM_DEFAULT_PROVIDER", "default_service"),
        ("DEFAULT_SERVICE", "default_service"), ("LLM_ENABLE_FALLBACK", "enable_fallback"),
        ("ENABLE_FALLBACK", "enable_fallback"), ("LLM_AIRGAP_MODE", "airgap_mode"), ("AIRGAP_MODE", "airgap_mode"),
    ],
)  # fmt: skip
@pytest.mark.req("C5", "S2-15", "S2-16", "S3-29", "S3-30", "S3-31")
def test_the_names_of_all_documents_are_read(monkeypatch: pytest.MonkeyPatch, variable: str, field: str) -> None:
    default = BaseServiceSettings.model_fields[field].default
    given: Any = "auto" if field == "default_service" else not default
    assert getattr(read(monkeypatch, **{variable: str(given).lower()}), field) == given


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert (settings.default_service, settings.enable_fallback, settings.airgap_mode) == ("ollama", True, False)
    assert not settings.allow_service_registration


@pytest.mark.req("S0-33", "S0-34", "S0-35", "S2-30")
@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"OPENAI_API_KEY": "hunter2-is-no-key"}, "OPENAI_API_KEY: that is no key of openai, which look like sk-"),
        ({"ANTHROPIC_API_KEY": KEYS["openai"]}, "ANTHROPIC_API_KEY: that is no key of anthropic"),
        ({"OPENAI_API_KEY": KEYS["openai"] + " "}, "OPENAI_API_KEY: the key has characters"),
        ({"SERVICES": '{"openai": {"api_key": "sk a"}}'}, "SERVICES.openai.api_key: the key has characters"),
        ({"DEFAULT_SERVICE": "openrouter"}, "DEFAULT_SERVICE: openrouter has no API key. Set OPENROUTER_API_KEY"),
        ({"DEFAULT_SERVICE": "nobody"}, "DEFAULT_SERVICE: there is no service nobody; there are ollama"),
        ({"OLLAMA_ENABLED": "false"}, "SERVICES: there is none to run models"),
        ({"SERVICES": "{'openai'}"}, "SERVICES: expected JSON such as"),
        ({"SERVICES": '{"team": {}}'}, "SERVICES.team.api_format: Field required"),
        ({"SERVICES": '{"a b": {"api_format": "openai", "urls": ["http://x"]}}'}, "SERVICES.a b.name"),
        ({"SERVICES": '{"team": {"api_format": "grpc", "urls": ["http://x"]}}'}, "SERVICES.team.api_format"),
        ({"SERVICES": '{"team": {"api_format": "openai", "urls": ["x:1"]}}'}, "SERVICES.team.urls: expected addresses"),
        ({"SERVICES": '{"openai": {"local": true}}'}, "SERVICES.openai.local: https://api.openai.com/v1 is not ours"),
        ({"SERVICES": '{"jan": {"key": "x"}}'}, "SERVICES.jan.key: Extra inputs are not permitted"),
        ({"SERVICES": '{"jan": {"preset": "none"}}'}, "SERVICES.jan: preset: there is no none"),
        ({"AIRGAP_MODE": "true", "OLLAMA_URL": "http://8.8.8.8:11434"}, "AIRGAP_MODE: 8.8.8.8 of the service ollama"),
        ({"OLLAMA_BASE_URLS": "gpu:11434"}, "OLLAMA_BASE_URLS: gpu:11434 is not the address of a host"),
        ({"OLLAMA_BASE_URLS": "http://gpu:99999"}, "OLLAMA_BASE_URLS: http://gpu:99999 is not the address of a host"),
        ({"SERVICES": '{"jan": {"url": "http://gpu:99999"}}'}, "SERVICES.jan.url: expected addresses"),
        ({"SERVICES": '{"vllm": {"url": "http://localhost:8000/v1"}}'}, "SERVICES.vllm.urls: that is this gateway"),
        ({"AIRGAP_ALLOWED_NETWORKS": "gpu"}, "AIRGAP_ALLOWED_NETWORKS: gpu is no address"),
        (
            {"AIRGAP_MODE": "true", "OPENAI_API_KEY": KEYS["openai"], "DEFAULT_SERVICE": "openai"},
            "DEFAULT_SERVICE: The service openai is off: AIRGAP_MODE",
        ),
    ],
)
def test_faults_name_the_setting_and_never_the_key(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigFault) as caught:
        read(monkeypatch, GatewaySettings, **environment)
    sentences = " ".join(caught.value.args)
    assert told in sentences
    assert not [key for name, key in environment.items() if name.endswith("_KEY") and key.strip() in sentences]


@pytest.mark.req("C4")
def test_models_that_stand_in_at_services_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEYS["openai"])
    monkeypatch.setenv("FALLBACK_MODELS", "openai~gpt-4o")
    for allowed in ("gpt-4o*", "openai~*"):
        read(monkeypatch, OPENAI_DEFAULT_MODEL="gpt-4o-mini", ALLOWED_MODELS=allowed)
    with pytest.raises(ConfigFault) as caught:
        read(monkeypatch, OPENAI_DEFAULT_MODEL="o3", ALLOWED_MODELS="gpt-4o")
    assert [sentence.partition(":")[0] for sentence in caught.value.args] == ["SERVICES.openai.default_model"]


@pytest.mark.req("S0-33", "S2-37")
def test_what_is_off_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch, SERVICES='{"openrouter": {}, "jan": {"enabled": false}}', OPENAI_API_KEY=KEYS["openai"]
    )
    remarks = list(settings.service_remarks())
    assert len(remarks) == 2
    assert "openrouter is off: it has no API key. Set OPENROUTER_API_KEY" in remarks[0]
    assert "jan is switched off" in remarks[1]


@pytest.mark.req("S0-33", "S2-37")
def test_a_default_service_that_may_yet_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, DEFAULT_SERVICE="team", ALLOW_SERVICE_REGISTRATION="true")
    (remark,) = settings.service_remarks()
    assert remark.startswith("DEFAULT_SERVICE: there is no service team") and "at ollama till then" in remark


@pytest.mark.req("S0-33", "S2-37")
@pytest.mark.parametrize(
    ("variable", "environment"),
    [
        ("OPENAI_API_KEY", {}),
        ("OPENAI_API_KEY", {"SERVICES": '{"openai": {}}'}),
        ("TEAM_KEY", {"SERVICES": '{"openai": {"api_key_env_var": "TEAM_KEY"}}'}),
    ],
)
def test_a_key_that_cannot_be_one_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, environment: dict[str, str]
) -> None:
    with pytest.raises(ConfigFault) as caught:
        read(monkeypatch, **{variable: "hunter 2"}, **environment)
    (fault,) = caught.value.args
    assert fault.startswith(f"{variable}: the key has characters") and "hunter" not in fault


@pytest.mark.req("S0-24", "S4-58")
def test_no_key_is_shown_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"team": {"api_format": "openai", "urls": ["http://u:pass-word@h/v1"], "api_key": "a-very-secret-key"}}
    settings = read(monkeypatch, OPENAI_API_KEY=KEYS["openai"], SERVICES=json.dumps(given))
    shown = f"{settings!r} {settings} {settings.services['team']!r} {settings.services['team']}"
    assert "openai at http://h/v1 with a key" in shown
    assert "pass-word" not in shown
    assert "a-very-secret-key" not in shown + settings.model_dump_json()
    assert KEYS["openai"] not in shown + settings.model_dump_json()


def test_the_process_is_held_to_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[object] = []
    monkeypatch.setattr(egress, "keep_inside", held.append)
    monkeypatch.setattr(egress, "allow_all", lambda: held.append("all"))
    read(monkeypatch).guard_egress()
    read(monkeypatch, AIRGAP_MODE="true", AIRGAP_ALLOWED_NETWORKS="203.0.113.0/24").guard_egress()
    assert held == ["all", egress.networks(["203.0.113.0/24"])]


@pytest.mark.req("S4-22", "S4-23", "S4-24", "S4-25", "S4-01")
def test_every_preset_says_what_it_can() -> None:
    for name, preset in PRESETS.items():
        service = ServiceConfig.model_validate({"name": name})
        assert service.capabilities is preset.capabilities
        assert service.capabilities.inference
        assert service.capabilities.streaming
        assert service.local is preset.is_local
        assert bool(preset.key_variable) is not preset.is_local, "a cloud service needs a key, ours do not"
    assert PRESETS["ollama"].capabilities.install
    assert not PRESETS["openai"].capabilities.load
    assert not PRESETS["anthropic"].capabilities.embedding
