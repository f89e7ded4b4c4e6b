"""Where a job goes on that one host has let down: where its model is in memory, before another one must make way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from infra.simulator import Simulator, running
from shared.backends.ollama import OllamaBackend
from shared.jobs import State
from tests.conftest import WaitUntil
from tests.worker.rig import INSTANT, Bench, bench, calls, chat, fault, text_of
from worker.scheduling.policy import Knobs

ONE_MODEL = {**INSTANT, "models": "llama3.2,mistral", "max_loaded_models": 1}
Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def make(model: str = "") -> Simulator:
            """A host with room for one model, this one in its memory."""
            host = await stack.enter_async_context(running(**ONE_MODEL))
            if model:
                await load(host, model)
            return host

        yield make


async def load(host: Simulator, model: str) -> None:
    backend = OllamaBackend(host.url)
    await backend.load(model)
    await backend.aclose()
    host.calls.clear()


def name(host: Simulator) -> str:
    return host.url.removeprefix("http://")


async def seen(b: Bench, wait_until: WaitUntil, host: Simulator, model: str = "") -> None:
    """Until a worker has seen the model in the host's memory."""

    async def is_seen() -> bool:
        sighting = (await b.queue.fleet()).hosts.get(name(host))
        return sighting is not None and model in (resident.model for resident in sighting.residents)

    await wait_until(is_seen, description=f"{model} was seen on {name(host)}")


@pytest.mark.req("S1-12", "S1-33")
@pytest.mark.parametrize(
    "failure", [{"status": 500}, {"status": 404, "body": '{"error":"model \\"llama3.2\\" not found"}'}]
)
async def test_a_job_goes_on_where_its_model_is_in_memory(
    redis_url: str, start: Start, wait_until: WaitUntil, failure: dict[str, Any]
) -> None:
    sick, others, has_it = await start("llama3.2"), await start("mistral"), await start("llama3.2")
    fault(sick, **failure)
    urls = [host.url for host in (sick, others, has_it)]
    # An idle worker's view may be some seconds old; the next one begins with what this one saw.
    async with bench(redis_url, urls, knobs=Knobs()) as b:
        await seen(b, wait_until, others, "mistral")
        await seen(b, wait_until, has_it, "llama3.2")
        await seen(b, wait_until, sick, "llama3.2")
    async with bench(redis_url, urls, knobs=Knobs(), max_loaded=1, breaking=False) as b:
        for _ in range(4):
            assert text_of(await b.run(chat(), wait_until)).backend == name(has_it)
    assert calls(sick), "it was asked first"
    assert calls(others) == [], "nothing had to make way"


@pytest.mark.req("S1-12", "S1-33")
async def test_a_job_waits_for_a_full_host_rather_than_push_out_a_model_in_use(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    sick, others, full = await start(), await start("mistral"), await start("llama3.2")
    urls = [host.url for host in (sick, others, full)]
    async with bench(redis_url, urls, knobs=Knobs(unit_calls=1, reserved=0), max_loaded=1, breaking=False) as b:
        await seen(b, wait_until, others, "mistral")
        await seen(b, wait_until, full, "llama3.2")
        # Answers that go on until the job that fails has been elsewhere.
        fault(others, "drip", delay_seconds=0.6, count=1)
        fault(full, "drip", delay_seconds=0.5, count=1)
        long = [await b.submit(chat("[tokens=8]", model)) for model in ("mistral", "llama3.2")]
        await wait_until(lambda: calls(others) and calls(full), description="both are busy")
        await load(sick, "llama3.2")
        fault(sick)
        await seen(b, wait_until, sick, "llama3.2")
        record = await b.run(chat(), wait_until)
        assert text_of(record).backend == name(full)
        assert [(await b.ended(job_id, wait_until)).state for job_id in long] == [State.SUCCEEDED] * 2
    assert calls(sick), "it was asked first"
    assert calls(others) == ["mistral"], "its model was in use"
