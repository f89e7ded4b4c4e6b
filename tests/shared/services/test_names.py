"""Which service and model a name means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.services.names import ModelName, parse

SERVICES = {"ollama", "openrouter", "lm_studio"}


@pytest.mark.req("C7", "S2-07", "S2-08", "S2-38", "S4-14")
@pytest.mark.parametrize(
    ("name", "service", "model", "prefixed"),
    [
        ("llama3.2", "ollama", "llama3.2", False),
        ("llama3.2:3b", "ollama", "llama3.2:3b", False),
        ("ollama~llama3.2:3b", "ollama", "llama3.2:3b", True),
        ("ollama:llama3.2:3b", "ollama", "llama3.2:3b", True),
        ("OpenRouter:vendor/model:free", "openrouter", "vendor/model:free", True),
        ("lm_studio~org/model~v2", "lm_studio", "org/model~v2", True),
        ("hf.co/user/model:q4", "ollama", "hf.co/user/model:q4", False),
        ("openai:gpt-4o", "ollama", "openai:gpt-4o", False),  # there is no such service here, so the colon is a tag's
        ("openai~gpt-4o", "openai", "gpt-4o", True),  # a tilde is no tag's: that service is meant
        ("ollama:", "ollama", "ollama:", False),
        ("ollama~", "ollama", "", True),
    ],
)
def test_names(name: str, service: str, model: str, prefixed: bool) -> None:
    assert parse(name, SERVICES, "ollama") == ModelName(service, model, prefixed)


@given(service=st.sampled_from(sorted(SERVICES)), model=st.text(min_size=1).map(str.strip).filter(bool))
def test_a_qualified_name_means_the_same_everywhere(service: str, model: str) -> None:
    qualified = ModelName(service, model).qualified
    for default in SERVICES:
        assert parse(qualified, SERVICES, default) == ModelName(service, model, prefixed=True)
