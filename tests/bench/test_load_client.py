"""The instruments themselves: the stub upstream and the load client against each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.bench.load_client import Load, LoadError, run
from tests.bench.stub_upstream import EMBED_S, EMBEDDER, Embedder, StubConnection, plan


@pytest.fixture
async def stub() -> AsyncIterator[str]:
    loop, embedder = asyncio.get_running_loop(), Embedder()
    server = await loop.create_server(lambda: StubConnection(loop, embedder), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


def _load(url: str, model: str, *, stream: bool, tokens: int, clients: int = 4, requests: int = 8) -> Load:
    body = json.dumps({"model": model, "stream": stream, "input": ["one text", "another"]}).encode()
    return Load(
        url=url, body=body, headers={}, clients=clients, requests=requests, seconds=60.0, expect=200, tokens=tokens
    )


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize(
    ("model", "stream", "tokens"), [("noop", False, 1), ("flat-251", True, 251), ("paced-3", True, 3)]
)
async def test_every_token_of_every_answer_is_counted(
    stub: str, path: str, model: str, stream: bool, tokens: int
) -> None:
    tally = await run(_load(stub + path, model, stream=stream, tokens=tokens))
    assert [reply.tokens for reply in tally.replies] == [tokens] * 8


async def test_a_paced_stream_keeps_its_pace(stub: str) -> None:
    load = _load(f"{stub}/api/chat", "paced-20", stream=True, tokens=20, clients=1, requests=1)
    reply = (await run(load)).replies[0]
    assert reply.first_token_s < 0.05
    # Twenty intervals of 5 ms: it may be late on a busy machine, never early.
    assert reply.total_s >= 0.1


async def test_embeddings_are_served_one_call_at_a_time(stub: str) -> None:
    tally = await run(_load(f"{stub}/api/embed", EMBEDDER, stream=False, tokens=0, clients=4, requests=4))
    assert len(tally.replies) == 4
    assert tally.ended - tally.started >= 4 * EMBED_S


async def test_each_text_gets_its_vector() -> None:
    answer = json.loads(await Embedder().answer(b'{"model": "embed", "input": ["one", "two", "three"]}'))
    assert [len(vector) for vector in answer["embeddings"]] == [768] * 3


async def test_clients_that_are_spread_do_not_begin_at_once(stub: str) -> None:
    load = _load(f"{stub}/api/chat", "noop", stream=False, tokens=1, clients=2, requests=2)
    load.spread = 0.2
    tally = await run(load)
    # The second of two begins after half of it.
    assert tally.ended - tally.started >= 0.1


async def test_an_answer_with_too_few_tokens_does_not_count(stub: str) -> None:
    with pytest.raises(LoadError, match="expected 3 tokens in an answer, got 2"):
        await run(_load(f"{stub}/api/chat", "flat-2", stream=True, tokens=3, clients=1))


async def test_another_status_than_expected_does_not_count(stub: str) -> None:
    load = _load(f"{stub}/api/chat", "noop", stream=False, tokens=1, clients=1)
    load.expect = 202
    with pytest.raises(LoadError, match="200 OK"):
        await run(load)


def test_a_model_name_says_how_it_answers() -> None:
    assert [plan(name) for name in ("noop", "paced-600:latest", "flat-250", "else")] == [
        ("noop", 1),
        ("paced", 600),
        ("flat", 250),
        ("noop", 1),
    ]
