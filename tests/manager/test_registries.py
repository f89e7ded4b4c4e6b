"""Searching outside registries: what is read from them, what is kept, what happens when they are away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.registries import huggingface, ollama_library
from manager.registries.record import RegistryModel
from manager.registries.search import MAX_BYTES, Registries, RegistryUnavailable
from manager.registries.texts import count, one_line
from shared.errors import Forbidden
from shared.queue.client import QueueClient
from tests.house.redis_server import free_port
from tests.manager.programs import ManagerProgram, queue_client, simulator
from tests.manager.registry_server import RegistryServer, registry_server, search_page


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client


@asynccontextmanager
async def registries(queue: QueueClient, server: RegistryServer, **options: Any) -> AsyncIterator[Registries]:
    urls: Any = {"ollama": server.url, "huggingface": server.url}
    found = Registries(options.pop("urls", urls), queue.redis, queue.keys, **options)
    yield found
    await found.aclose()


@pytest.mark.req("S4-68", "S4-70")
async def test_both_registries_are_searched_and_what_they_say_is_kept(queue: QueueClient) -> None:
    async with registry_server() as server, registries(queue, server) as found:
        models = {model.id: model for model in (await found.search("  Llama ")).models}
        assert sorted(server.asked) == ["huggingface llama", "ollama llama"]
        hugging = models["bartowski/Llama-3.2-1B-Instruct-GGUF"]
        assert (hugging.likes, hugging.trend, hugging.downloads) == (120, 7.0, 250_000)
        assert hugging.tags == ("gguf", "text-generation", "license:llama3.2")
        assert hugging.url == f"{server.url}/bartowski/Llama-3.2-1B-Instruct-GGUF"
        assert (hugging.pull_name, hugging.registry) == (f"hf.co/{hugging.id}", "huggingface")
        assert models["someone/quiet-7b-GGUF"].likes == -1
        library = models["llama3.2"]
        assert (library.downloads, library.tags, library.updated) == (11_300_000, ("tools", "1b", "3b"), "1 week ago")
        assert (library.url, library.description) == (f"{server.url}/library/llama3.2", "A model that hums & walks.")
        assert models["mario/llama-tuned"].pull_name == "mario/llama-tuned"
        # The same again is not asked for, neither by this process nor by another.
        async with registries(queue, server) as other:
            assert {model.id: model for model in (await other.search("llama")).models} == models
            assert len(server.asked) == 2
            assert await other.kept("llama3.2") == [library]
            assert await other.kept(hugging.pull_name) == [hugging]
            assert await other.kept("nobody") == []


async def test_what_was_kept_lapses(queue: QueueClient) -> None:
    async with registry_server() as server, registries(queue, server, ttl_s=0.2) as found:
        await found.search("llama", ["ollama"])
        await asyncio.sleep(0.3)
        assert await found.kept("llama3.2") == []
        await found.search("llama", ["ollama"])
        assert len(server.asked) == 2


async def test_one_registry_that_is_away_is_named_and_the_other_searched(queue: QueueClient) -> None:
    async with registry_server() as server:
        nobody = f"http://127.0.0.1:{free_port()}"
        async with registries(queue, server, urls={"ollama": server.url, "huggingface": nobody}) as found:
            answer = await found.search("llama")
            assert [model.registry for model in answer.models] == ["ollama", "ollama"]
            assert list(answer.errors) == ["huggingface"] and nobody not in answer.errors["huggingface"]
            with pytest.raises(RegistryUnavailable):
                await found.search("llama", ["huggingface"])


@pytest.mark.parametrize(
    ("status", "models", "page"),
    [(503, [], search_page()), (200, {"error": "no"}, "{}"), (200, ["x" * MAX_BYTES], "<html>" + "x" * MAX_BYTES)],
    ids=["status", "another form", "too large"],
)
async def test_answers_that_are_no_answers_are_not_kept(
    queue: QueueClient, status: int, models: object, page: str
) -> None:
    async with registry_server() as server, registries(queue, server) as found:
        server.status, server.models, server.page = status, models, page
        with pytest.raises(RegistryUnavailable):
            await found.search("llama")
        assert await queue.redis.keys("*registry*") == []


async def test_in_airgap_mode_nobody_is_asked(queue: QueueClient) -> None:
    async with registry_server() as server, registries(queue, server, off="Off.") as found:
        with pytest.raises(Forbidden):
            await found.search("llama")
        assert server.asked == []
    async with registry_server() as server, registries(queue, server, urls={"ollama": "", "huggingface": ""}) as found:
        with pytest.raises(Forbidden, match="OLLAMA_LIBRARY_URL"):
            await found.search("llama")


async def test_at_most_so_many_are_kept(queue: QueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manager.registries.search.MOST_KEPT", 3)
    async with registry_server() as server, registries(queue, server) as found:
        for word in ("a", "b", "c"):
            server.page = search_page(f"/library/{word}1", f"/library/{word}2")
            await found.search(word, ["ollama"])
        assert len(await queue.redis.keys("*registry-model:*")) == 3
        assert await queue.redis.zcard(queue.keys.registry_models) == 3


@given(st.binary(max_size=400))
def test_no_bytes_break_a_reader(body: bytes) -> None:
    for read in (huggingface.read_models, ollama_library.read_models):
        with suppress(ValueError):
            assert all(isinstance(model, RegistryModel) for model in read(body, "http://r"))


def test_the_page_of_a_stranger_gives_plain_texts() -> None:
    page = search_page("/library/a").replace("A model that", "A\x1b[31m <script>alert(1)</script>" + "x" * 9000)
    [model] = ollama_library.read_models(page.encode(), "http://r")
    assert "\x1b" not in model.description and len(model.description) <= 300
    assert ollama_library.read_models(b"<html><ul></ul></html>", "http://r") == []
    hostile = [{"id": "a/b\x07c", "tags": ["x\ny"]}, {"id": "no-owner"}, {"id": "../../etc/passwd"}]
    [only] = huggingface.read_models(json.dumps(hostile).encode(), "http://r")
    assert (only.id, only.tags) == ("a/b c", ("x y",))


@pytest.mark.parametrize(
    ("text", "number"),
    [("11.3M", 11_300_000), ("1,204", 1204), ("12K", 12_000), ("2b", 2 * 10**9), ("", -1), ("?", -1)],
)
def test_counts(text: str, number: int) -> None:
    assert count(text) == number
    assert one_line(f" {text}\n") == text


@pytest.mark.req("S4-70")
async def test_the_managers_pages(redis_url: str, tmp_path: Path) -> None:
    async with registry_server() as outside, simulator(models=("llama3.2",)) as server:
        settings = {"OLLAMA_LIBRARY_URL": outside.url, "HUGGINGFACE_URL": outside.url + "/"}
        async with ManagerProgram(tmp_path / "m", redis_url, server.url, **settings) as manager:
            found = await manager.read("/models/search", text="llama", limit=1)
            assert [model["pull_name"] for model in found["models"]] == [
                *("llama3.2", "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF"),
            ]
            assert found["models"][0]["likes"] is None and found["models"][1]["guessed"]["parameters"] == 10**9
            about = await manager.read("/models/about", name="llama3.2")
            [record] = about["installed"]
            assert (record["name"], record["max_tokens"]) == ("ollama~llama3.2:latest", 131_072)
            assert [model["registry"] for model in about["found"]] == ["ollama"]
            for path, param in (
                ("/models/search", "text"), ("/models/search?text=a&limit=0", "limit"),
                ("/models/search?text=a&registry=npm", "registry"), ("/models/about?name=a%00b", "name"),
            ):  # fmt: skip
                refused = await manager.http.get(path)
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        async with ManagerProgram(tmp_path / "n", redis_url, server.url, AIRGAP_MODE="true", **settings) as manager:
            refused = await manager.http.get("/models/search?text=other")
            assert refused.status_code == 403 and "AIRGAP_MODE" in refused.json()["error"]["message"]
            assert not any("other" in asked for asked in outside.asked)
