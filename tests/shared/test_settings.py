"""Where settings come from, what they may be written like, and how wrong ones are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from infra.setup.settings_table import GROUPS
from shared.lifecycle import ConfigFault, milliseconds, misspellings, open_logs, read_settings
from shared.settings import BaseServiceSettings, LayeredSettings, Ratio, Seconds, parse_duration_s, parse_ratio
from shared.settings_sources import Layer, UnreadableConfig, known_names, misspelt, read_layers
from worker.settings import WorkerSettings


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and no setting of whoever runs the tests."""
    for name in (*known_names(model for _, model in GROUPS), "arriero_config"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.req("S1-81", "S1-76", "C1")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300000", 300),
        ("300", 300),
        ("300s", 300),
        ("300000ms", 300),
        ("5m", 300),
        ("1000", 1),
        ("999", 999),
        ("2h", 7200),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.req("S1-86", "S1-98")
@pytest.mark.parametrize(
    ("text", "share"), [("0.8", 0.8), ("80", 0.8), ("80%", 0.8), ("1", 1.0), ("0", 0.0), ("1%", 0.01)]
)
def test_shares(text: str, share: float) -> None:
    assert parse_ratio(text) == pytest.approx(share)


@pytest.mark.parametrize("wrong", ["", "soon", "-1s", "5 weeks"])
def test_what_is_no_duration_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="such as 300s"):
        parse_duration_s(wrong)


@pytest.mark.req("S4-63", "C24")
def test_environment_before_dotenv_before_yaml_before_default(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "config.yaml").write_text("worker:\n  id: yaml\n  port: 1001\n  concurrency: 11\n")
    (here / ".env").write_text("WORKER_PORT=1002\nWORKER_CONCURRENCY=12\n")
    monkeypatch.setenv("WORKER_CONCURRENCY", "13")
    settings = read_settings(WorkerSettings)
    assert (settings.worker_concurrency, settings.worker_port, settings.worker_id) == (13, 1002, "yaml")
    assert settings.worker_timeout == 300


@pytest.mark.req("S4-63", "S4-56")
@pytest.mark.parametrize(
    "document",
    [
        "ollama_base_urls: [http://a:1, http://b:2]",
        "ollama_base_urls: http://a:1,http://b:2",
        "ollama:\n  base_urls: [http://a:1, http://b:2]",
        "llm:\n  ollama_base_urls: [http://a:1, http://b:2]",
        "llm:\n  ollama:\n    base_urls: [http://a:1, http://b:2]",
        "OLLAMA_URL: http://a:1,http://b:2",
    ],
)
def test_sections_only_group(here: Path, document: str) -> None:
    (here / "config.yaml").write_text(document)
    assert read_settings(WorkerSettings).ollama_base_urls == ["http://a:1", "http://b:2"]


def test_yaml_values_are_read_like_text(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "other.yaml").write_text(
        "worker: {timeout: 300000, concurrency: 7}\nenable_model_fallback: no\n"
        "fallback_chains: {llama3.2: [mistral, phi3]}\nfallback_models:\nlog_level: DEBUG\n"
    )
    monkeypatch.setenv("ARRIERO_CONFIG", "other.yaml")
    settings = read_settings(WorkerSettings)
    assert (settings.worker_timeout, settings.worker_concurrency, settings.log_level) == (300, 7, "DEBUG")
    assert settings.enable_model_fallback is False
    assert settings.fallback_chains == {"llama3.2": ["mistral", "phi3"]}
    assert settings.fallback_models == []


@pytest.mark.parametrize(
    ("document", "says"),
    [("a: [", "is not YAML"), ("- a list", "expected settings"), (None, "ARRIERO_CONFIG names it")],
)
def test_a_file_that_cannot_be_read_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, document: str | None, says: str
) -> None:
    if document is not None:
        (here / "mine.yaml").write_text(document)
    monkeypatch.setenv("ARRIERO_CONFIG", "mine.yaml")
    with pytest.raises(UnreadableConfig, match=says) as raised:
        read_layers()
    assert "mine.yaml" in str(raised.value)
    with pytest.raises(ConfigFault, match=says):
        read_settings(WorkerSettings)


@pytest.mark.req("S1-80", "S0-29", "S2-18", "S3-32")
@pytest.mark.parametrize("name", ["OLLAMA_BASE_URLS", "OLLAMA_BASE_URL", "OLLAMA_API_URL", "OLLAMA_URL"])
def test_a_host_by_each_of_its_names(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://gpu:11434")
    assert read_settings(WorkerSettings).ollama_base_urls == ["http://gpu:11434"]


@pytest.mark.req("C2")
def test_two_names_with_different_values_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_URL", "http://a:1")
    monkeypatch.setenv("OLLAMA_API_URL", "http://b:1")
    with pytest.raises(ConfigFault, match=r"OLLAMA_(API_)?URL and OLLAMA_(API_)?URL"):
        read_settings(WorkerSettings)
    monkeypatch.setenv("OLLAMA_API_URL", "http://a:1/")
    assert read_settings(WorkerSettings).ollama_base_urls == ["http://a:1/"]
    monkeypatch.setenv("OLLAMA_API_URL", "")
    assert read_settings(WorkerSettings).ollama_base_urls == ["http://a:1"]


def test_a_stronger_place_wins_whatever_name_it_uses(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / ".env").write_text("OLLAMA_BASE_URLS=http://weak:1\n")
    monkeypatch.setenv("OLLAMA_URL", "http://strong:1")
    assert read_settings(WorkerSettings).ollama_base_urls == ["http://strong:1"]


@pytest.mark.req("S0-35")
def test_all_that_is_wrong_is_told_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "WORKER_CONCURRENCY": "many",
        "WORKER_PORT": "99999",
        "REDIS_URL": "http://cache",
        "OLLAMA_URL": "http://a",
        "OLLAMA_BASE_URL": "http://b",
        "ALLOWED_MODELS": "llama3.2",
        "FALLBACK_MODELS": "mistral",
        "FALLBACK_CHAINS": "llama3.2=phi3",
        "CIRCUIT_BREAKER_OPEN_TIME": "90s",
        "REDIS_PASSWORD": "hunter2",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigFault) as raised:
        read_settings(WorkerSettings)
    told = "\n".join(raised.value.args)
    for name in wrong:
        assert name in told or name == "REDIS_PASSWORD", name
    assert "many" not in told
    assert "hunter2" not in told
    assert len(raised.value.args) == 7


@pytest.mark.req("S1-83", "C4")
def test_fallbacks_must_be_allowed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_MODELS", "llama3.2, qwen2.5:*")
    monkeypatch.setenv("FALLBACK_MODELS", "LLAMA3.2:latest,qwen2.5:7b")
    assert read_settings(WorkerSettings).fallback_models
    monkeypatch.setenv("FALLBACK_MODELS", "llama3.2:70b")
    with pytest.raises(ConfigFault, match=r"FALLBACK_MODELS: llama3\.2:70b is not in ALLOWED_MODELS"):
        read_settings(WorkerSettings)


def test_a_bare_number_read_as_milliseconds_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TIMEOUT", "300000")
    monkeypatch.setenv("OLLAMA_TIMEOUT", "300")
    (told,) = milliseconds(WorkerSettings, read_layers())
    assert told.startswith("WORKER_TIMEOUT (environment) is read as 300 s")


def test_misspelt_names_are_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CONCURENCY", "7")
    (here / "config.yaml").write_text("redis: {urls: x}\nfallback_chains: {worker_ids: [b]}\n")
    told = list(misspellings([WorkerSettings], read_layers()))
    assert [sentence.partition(" ")[0] for sentence in told] == ["WORKER_CONCURENCY", "redis.urls"]
    assert "Is WORKER_CONCURRENCY meant?" in told[0]


@pytest.mark.parametrize(("group", "model"), GROUPS, ids=[group for group, _ in GROUPS])
def test_no_setting_is_taken_for_a_misspelt_one_of_another_service(group: str, model: type[LayeredSettings]) -> None:
    every = Layer.flat("environment", dict.fromkeys(known_names(other for _, other in GROUPS), "x"))
    assert not [given.written for given, _ in misspelt(known_names([model]), [every])], group


@pytest.mark.req("C1")
def test_units_hold_in_every_place(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(BaseServiceSettings):
        pause: Seconds = Field(1.0, ge=0)
        share: Ratio = 0.5

    (here / "config.yaml").write_text("pause: 2000\nshare: 80\n")
    assert (Two().pause, Two().share) == (2.0, 0.8)
    monkeypatch.setenv("SHARE", "180")
    with pytest.raises(ValidationError):
        Two()


def test_addresses_are_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SENTINELS", "one,two:26379")
    monkeypatch.setenv("OLLAMA_BASE_URLS", "gpu:11434")
    with pytest.raises(ConfigFault, match="REDIS_SENTINELS: one has no port") as raised:
        read_settings(BaseServiceSettings)
    assert any("http://host:11434" in sentence for sentence in raised.value.args)


@pytest.mark.usefixtures("restored_logs")
def test_a_service_logs_what_is_odd_about_its_settings(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORKER_CONCURENCY": "7", "WORKER_TIMEOUT": "300000", "LOG_FORMAT": "json"}.items():
        monkeypatch.setenv(name, value)
    open_logs("worker", read_settings(WorkerSettings))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("settings.remark", "warning")] * 2
    assert "WORKER_TIMEOUT" in lines[0]["remark"]
    assert "WORKER_CONCURRENCY" in lines[1]["remark"]


@pytest.mark.usefixtures("restored_logs")
def test_a_log_file_that_cannot_be_written_is_a_fault(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "file").touch()
    monkeypatch.setenv("LOG_FILE", str(here / "file" / "app.log"))
    with pytest.raises(ConfigFault, match=r"LOG_FILE: .* cannot be written"):
        open_logs("worker", read_settings(WorkerSettings))
