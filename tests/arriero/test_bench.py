"""`arriero bench model` on a real stack before the simulator, whose speed is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.house.redis_server import free_port
from tests.integration.stack import Stack

LOAD_S, TOKENS_PER_S = 0.5, 200.0
TOKENS = 30
PROMPT = f"Count the stones [tokens={TOKENS}]"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = ("--load-seconds", str(LOAD_S), "--tokens-per-second", str(TOKENS_PER_S))
    with Stack(simulator=options, FALLBACK_CHAINS="llava=mistral", OLLAMA_MAX_RETRIES="2") as stack:
        stack.gateway()
        stack.worker()
        stack.daemon("manager")
        stack.wait()
        yield stack


def measured(stack: Stack, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        stack.command("bench", "model", *arguments, "--runs", "2", "--prompt", PROMPT, "--json")
    )
    return answer


def plausible(figures: dict[str, Any], host: str) -> None:
    """As the simulator was told; no bound that a busy machine could break."""
    assert (figures["host"], figures["calls"], figures["tokens"]) == (host, 3, 3 * TOKENS)
    assert figures["load_s"] >= LOAD_S * 0.9
    # Whoever waits for the first token waits for less than a load: it is not among these calls.
    assert 0 < figures["first_token_s"]["least"] <= figures["first_token_s"]["median"]
    assert 0 < figures["tokens_per_s"]["median"] <= TOKENS_PER_S * 1.1
    assert figures["prompt_tokens_per_s"]["median"] > 0


@pytest.mark.req("S0-48", "S3-52")
def test_through_the_queue(stack: Stack) -> None:
    host = stack.simulator.url.partition("://")[2]
    stack.command("models", "load", "llama3.2")
    answer = measured(stack, "llama3.2", "ollama~mistral", "--cold")
    assert answer["through"] == "gateway"
    assert [figures["model"] for figures in answer["results"]] == ["llama3.2", "ollama~mistral"]
    for figures in answer["results"]:
        plausible(figures, host)
        assert figures["queue_s"]["median"] >= 0


@pytest.mark.req("S0-48", "S3-52")
def test_straight_at_a_host(stack: Stack) -> None:
    stack.command("models", "load", "llama3.2")
    before = len(stack.simulator.calls())
    answer = measured(stack, "llama3.2", "--direct", "--host", stack.simulator.url, "--cold")
    assert answer["through"] == "direct"
    (figures,) = answer["results"]
    plausible(figures, stack.simulator.url.partition("://")[2])
    assert figures["queue_s"] is None
    assert len(stack.simulator.calls()) > before


def test_the_table(stack: Stack) -> None:
    printed = stack.command("bench", "model", "llama3.2", "--runs", "1", "--tokens", "5")
    assert "first token" in printed
    assert "llama3.2" in printed


def test_a_stand_in_is_not_measured_in_a_model_s_place(stack: Stack) -> None:
    stack.simulator.misbehave("status", status=500, match={"model": "llava"})
    done = stack.run("bench", "model", "llava", "--runs", "1")
    stack.simulator.behave()
    assert done.returncode == 1
    assert "mistral answered in its place" in done.stderr


def test_what_cannot_be_measured_is_said_in_a_line(stack: Stack) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for arguments, status, says in (
        (["llama3.3"], 1, "Did you mean llama3.2"),
        (["llama3.3", "--direct"], 1, "llama3.3"),
        (["nomic-embed-text", "--direct"], 1, "does not support chat"),
        (["llama3.2", "--direct", "--host", nowhere], 69, nowhere),
        (["llama3.2", "--url", nowhere], 69, "make run"),
        (["llama3.2", "--host", nowhere], 2, "--direct"),
    ):
        done = stack.run("bench", "model", *arguments)
        assert done.returncode == status, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr
