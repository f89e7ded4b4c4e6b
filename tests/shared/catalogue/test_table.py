"""The catalogue on real Redis before a simulator: who is asked when, what is kept, what operations add."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.simulator import running
from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama import OllamaBackend
from shared.catalogue.states import with_operations
from shared.catalogue.table import ModelTable, Place
from shared.errors import BackendUnreachable
from shared.operations.orders import Orders, models_shard
from shared.queue.client import QueueClient
from shared.queue.scripts import Scripts
from shared.wire.operations import ModelOperation
from tests.manager.programs import queue_client
from tests.shared.queue.rig import claim, settle


class Machine:
    """A backend that counts how often it is asked, and is away while `away`. It shows no details."""

    def __init__(self, *models: str, name: str = "m:1") -> None:
        self.name = name
        self.has = list(models)
        self.in_memory: list[str] = []
        self.away = False
        self.asked = 0

    async def models(self) -> list[ModelInfo]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise BackendUnreachable
        return [ModelInfo(name=name) for name in self.has]

    async def loaded(self) -> list[LoadedModel]:
        return [LoadedModel(name=name) for name in self.in_memory]


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url) as client:
        yield client


@asynccontextmanager
async def table_on(queue: QueueClient) -> AsyncIterator[ModelTable]:
    table = ModelTable(queue.redis, queue.keys)
    yield table
    await table.stop()


def place(*machines: Machine, loads: bool = True, listed: tuple[str, ...] = (), asks: bool = True) -> Place:
    return Place(service="gpus", backends=machines, loads=loads, listed=listed, asks=asks)  # type: ignore[arg-type]  # asked for no answers


@pytest.mark.req("S4-67", "S4-18", "S4-17", "C23")
async def test_a_servers_own_words_are_kept(queue: QueueClient) -> None:
    async with running(models="llama3.2,nomic-embed-text", load_seconds=0) as server, table_on(queue) as table:
        backend = OllamaBackend(server.url)
        await backend.load("llama3.2")
        there = Place(service="ollama", backends=[backend], loads=True)
        llama, nomic = await table.of(there)
        await backend.aclose()
        assert (llama.name, llama.type, llama.state) == ("ollama~llama3.2:latest", "llm", "loaded")
        assert (llama.max_tokens, llama.parameters, llama.quantization) == (131_072, 3_200_000_000, "Q4_K_M")
        assert llama.tooling and llama.is_gguf and llama.capabilities == ("completion", "tools")
        assert (nomic.type, nomic.state, nomic.streaming) == ("embeddings", "not_loaded", False)
        # Another process, and the machine gone: the table still has them.
        async with table_on(queue) as other:
            assert await other.known("ollama") == [llama, nomic]


async def test_any_number_of_readers_ask_once(queue: QueueClient) -> None:
    machine = Machine("phi3")
    async with table_on(queue) as one, table_on(queue) as other:
        await asyncio.gather(*(one.of(place(machine)) for _ in range(20)))
        await other.of(place(machine))
        assert machine.asked == 1
        machine.has.append("mistral")
        await one.outdated("gpus")
        assert [record.upstream_name for record in await other.of(place(machine))] == ["mistral", "phi3"]


async def test_what_is_gone_is_forgotten_only_if_everyone_says_so(queue: QueueClient) -> None:
    near, far = Machine("phi3", "mistral"), Machine("llama3.2", name="m:2")
    async with table_on(queue) as table:
        assert len(await table.of(place(near, far))) == 3
        near.has, far.away = ["phi3"], True
        await table.outdated("gpus")
        assert len(await table.of(place(near, far))) == 3
        far.away = False
        await table.outdated("gpus")
        assert [record.upstream_name for record in await table.of(place(near, far))] == ["llama3.2", "phi3"]
        assert not await queue.redis.exists(queue.keys.model_root("gpus") + "mistral")


async def test_at_most_so_many_are_kept(queue: QueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.catalogue.store.MAX_MODELS", 3)
    machine, silent = Machine("a", "b", "c", "d"), Machine(name="m:2")
    silent.away = True  # so that none of the others is known to be gone
    async with table_on(queue) as table:
        assert len(await table.of(place(machine, silent))) == 3
        machine.has = ["x", "y"]
        await table.outdated("gpus")
        names = [record.upstream_name for record in await table.of(place(machine, silent))]
        assert len(names) == 3 and {"x", "y"} < set(names)
        assert len(await queue.redis.keys("*:model:*")) == 3


async def test_a_service_that_does_not_tell_has_what_its_configuration_lists(queue: QueueClient) -> None:
    machine = Machine("unseen")
    async with table_on(queue) as table:
        [record] = await table.of(place(machine, loads=False, listed=("gpt-4o",), asks=False))
    assert (record.name, record.state, record.type, machine.asked) == ("gpus~gpt-4o", "ready", "vlm", 0)


@pytest.mark.req("S4-16", "S4-23")
async def test_operations_show_in_the_states(queue: QueueClient, redis_url: str) -> None:
    async with queue_client(redis_url, models_shard("gw")) as shard, table_on(queue) as table:
        orders, scripts = Orders(shard, ["m:1"]), Scripts(shard.redis, shard.keys)
        records = await table.of(place(Machine("phi3", "mistral")))

        async def states(now: float = 0.0) -> dict[str, str]:
            operations = await orders.list()
            return {r.upstream_name: r.state for r in with_operations("gpus", records, operations, now=now)}

        assert await states() == {"mistral": "not_loaded", "phi3": "not_loaded"}
        await orders.place(ModelOperation(op="load", model="phi3"), by="t")
        assert (await states())["phi3"] == "loading"
        [job] = await claim(scripts)
        await settle(scripts, job.id, job.token, "dead_lettered", error=b"@model_fault")
        ended_at = (await orders.get(job.id)).record.ended_at or 0.0
        assert (await states(ended_at + 5))["phi3"] == "error"
        assert (await states(ended_at + 5 * 3600))["phi3"] == "not_loaded"
        await orders.place(ModelOperation(op="pull", model="gemma2:2b"), by="t")
        assert (await states())["gemma2:2b"] == "downloading"
