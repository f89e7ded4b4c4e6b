"""langchain-openai, langchain-ollama, LiteLLM and the `llm` command, with nothing changed but the address.

They are heavy and cannot all live beside our own packages, so each runs as a program in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.compat.environment import Outcome, ran
from tests.integration.stack import Stack

PROGRAMS = {
    "langchain-openai": ("langchain_openai",),
    "langchain-ollama": ("langchain_ollama",),
    "litellm-openai": ("litellm", "openai"),
    "litellm-ollama": ("litellm", "ollama"),
    "llm": ("llm",),
}
CHECKS = [
    pytest.param(client, check, id=f"{client}-{check}")
    for client in PROGRAMS
    for check in ("chat", "stream", "embed", "tools", "error")
    # The command embeds with OpenAI's own models only.
    if (client, check) != ("llm", "embed")
]
# The first of them may have to fetch some 280 MB.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OutcomesOf = Callable[[str], dict[str, Outcome]]


@pytest.fixture(scope="module")
def outcomes_of(package_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> OutcomesOf:
    """How a client's checks ended; its program runs once."""

    @cache
    def outcomes(client: str) -> dict[str, Outcome]:
        return ran(PROGRAMS[client], package_stack.url, tmp_path_factory.mktemp(client))

    return outcomes


@pytest.mark.req("S2-35", "S2-44", "S4-46")
@pytest.mark.parametrize(("client", "check"), CHECKS)
def test_a_client(outcomes_of: OutcomesOf, client: str, check: str) -> None:
    outcome = outcomes_of(client)[check]
    assert outcome.ok, outcome.said
    if check == "error":
        assert "Did you mean llama3.2" in outcome.said
