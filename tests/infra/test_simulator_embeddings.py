"""/api/embed and /api/embeddings."""

from __future__ import annotations

import json
import math

from tests.infra.conftest import Start
from tests.infra.simulator_api import Api


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def embed(api: Api, *texts: str, **fields: object) -> list[list[float]]:
    reply = await api.post("/api/embed", {"model": "nomic-embed-text", "input": list(texts), **fields})
    vectors: list[list[float]] = reply.json["embeddings"]
    return vectors


async def test_vectors_have_length_one_and_keep_their_order(api: Api) -> None:
    together = await embed(api, "first", "second", "")
    assert [len(vector) for vector in together] == [768] * 3
    assert all(math.isclose(dot(vector, vector), 1, abs_tol=1e-5) for vector in together)
    assert together == [(await embed(api, text))[0] for text in ("first", "second", "")]


async def test_similar_texts_are_near(api: Api) -> None:
    cat, cats, stock = await embed(
        api, "a cat sleeps on the mat", "cats are sleeping on a mat", "stock prices fell sharply"
    )
    assert dot(cat, cats) > dot(cat, stock) + 0.2


async def test_a_reply_has_metrics_and_a_string_is_one_input(api: Api) -> None:
    reply = (await api.post("/api/embed", {"model": "nomic-embed-text", "input": "two words"})).json
    assert reply["model"] == "nomic-embed-text" and len(reply["embeddings"]) == 1
    assert reply["prompt_eval_count"] == 2 and reply["total_duration"] >= reply["load_duration"] > 0


async def test_dimensions_cut_and_scale(api: Api) -> None:
    [whole] = await embed(api, "some text with several words in it")
    [cut] = await embed(api, "some text with several words in it", dimensions=256)
    assert len(cut) == 256 and math.isclose(dot(cut, cut), 1, abs_tol=1e-5)
    assert math.isclose(dot(whole[:256], cut), math.sqrt(dot(whole[:256], whole[:256])), abs_tol=1e-5)
    assert await embed(api, "some text with several words in it", dimensions=9999) == [whole]


async def test_the_dimension_can_be_set(start: Start) -> None:
    api = await start(embedding_dimensions=12)
    assert len((await embed(api, "x"))[0]) == 12


async def test_no_input_loads_and_answers_with_nothing(api: Api) -> None:
    reply = await api.post("/api/embed", {"model": "nomic-embed-text", "input": ""})
    assert (reply.status, reply.json) == (200, {"model": "nomic-embed-text", "embeddings": []})
    assert await api.loaded() == ["nomic-embed-text:latest"]


async def test_the_old_route(api: Api) -> None:
    [expected] = await embed(api, "hello")
    assert (await api.post("/api/embeddings", {"model": "nomic-embed-text", "prompt": "hello"})).json == {
        "embedding": expected
    }
    assert (await api.post("/api/embeddings", {"model": "nomic-embed-text"})).json == {"embedding": []}


async def test_inputs_of_another_type_are_refused(api: Api) -> None:
    for value in (3, [1, 2], {"a": 1}, ["a", None]):
        reply = await api.post("/api/embed", {"model": "nomic-embed-text", "input": value})
        assert (reply.status, reply.json) == (400, {"error": "invalid input type"})


async def test_an_input_that_is_too_long_is_refused_only_when_it_may_not_be_cut(api: Api) -> None:
    long = "word " * 5000
    reply = await api.post("/api/embed", {"model": "nomic-embed-text", "input": long, "truncate": False})
    assert (reply.status, reply.json) == (400, {"error": "the input length exceeds the context length"})
    assert len(await embed(api, long)) == 1


async def test_a_model_that_generates_cannot_embed(api: Api) -> None:
    reply = await api.post("/api/embed", {"model": "llama3.2", "input": "x"})
    assert reply.status == 501 and "does not support embeddings" in json.loads(reply.json["error"])["error"]["message"]
