"""What the fallback's settings may look like."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from worker.settings import WorkerSettings


@pytest.mark.req("S1-88", "S1-89")
def test_models_and_chains_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLBACK_MODELS", "mistral, phi3")
    monkeypatch.setenv("FALLBACK_CHAINS", "llama3.2:3b=llama3.2:1b,phi3; llava = bakllava ;tiny=")
    monkeypatch.setenv("ENABLE_MODEL_FALLBACK", "false")
    policy = WorkerSettings(_env_file=None).fallback_policy
    assert policy.models == ["mistral", "phi3"]
    assert policy.chains == {"llama3.2:3b": ["llama3.2:1b", "phi3"], "llava": ["bakllava"], "tiny": []}
    assert not policy.enabled


def test_a_chain_without_a_model_is_refused_with_an_example() -> None:
    with pytest.raises(ValidationError, match=r"llama3\.2=mistral"):
        WorkerSettings(_env_file=None, fallback_chains="mistral,phi3")


@pytest.mark.req("S2-20", "S2-21", "S3-36", "C1", "C12")
def test_the_limits_on_calls_are_read_under_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TIMEOUT", "30")
    monkeypatch.setenv("OLLAMA_MAX_RETRIES", "4")
    settings = WorkerSettings(_env_file=None)
    assert (settings.call_timeouts.first_byte_s, settings.retry_policy.tries) == (30, 4)


def test_by_default_no_answer_is_kept() -> None:
    settings = WorkerSettings(_env_file=None)
    assert not settings.answer_cache_enabled
    assert settings.fallback_policy.enabled
    assert not settings.fallback_policy.models
