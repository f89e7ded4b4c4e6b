"""What a worker puts into the response cache, and what it does not, whatever the job says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from infra.simulator import Simulator, running
from shared.jobs import NewJob, State
from shared.resilience.response_cache import ResponseCache
from shared.wire.codec import decode_answer
from tests.conftest import WaitUntil
from tests.worker.rig import INSTANT, Bench, bench, chat, embedding, fault
from worker.fallback import FallbackPolicy


@pytest.fixture
async def host() -> AsyncIterator[Simulator]:
    async with running(**INSTANT, models="llama3.2,phi3,nomic-embed-text") as simulator:
        yield simulator


async def kept(b: Bench) -> list[str]:
    names = [name async for name in b.queue.redis.scan_iter(match=f"{b.queue.keys.root}response*")]
    return sorted(name.decode().removeprefix(b.queue.keys.root) for name in names)


async def only_the_next_is_kept(b: Bench, wait_until: WaitUntil) -> None:
    """Writes happen in the background, in order: once a later job's answer is there, an earlier one's would be."""
    await b.run(chat("something else", "phi3", cache_as="next", tenant="next"), wait_until)

    async def is_kept() -> bool:
        return "response:next:next" in await kept(b)

    await wait_until(is_kept)
    assert await kept(b) == ["response-sizes:next", "response:next:next", "responses:next"]


@pytest.mark.req("S0-53", "S2-36")
@pytest.mark.parametrize("job", [chat("q", cache_as="n"), embedding()], ids=["chat", "embedding"])
async def test_the_answer_of_a_job_that_was_named_is_kept_for_its_tenant(
    redis_url: str, host: Simulator, wait_until: WaitUntil, job: NewJob
) -> None:
    job.cache_as, job.tenant = "n", "t"
    async with bench(redis_url, [host.url]) as b:
        record = await b.run(job, wait_until)
        cache = ResponseCache(b.queue.redis, b.queue.keys)

        async def is_kept() -> bool:
            return await cache.get("t", job.kind, "n", oldest_s=60) is not None

        await wait_until(is_kept)
        assert await kept(b) == ["response-sizes:t", "response:t:n", "responses:t"]
        hit = await cache.get("t", job.kind, "n", oldest_s=60)
        assert await cache.get("u", job.kind, "n", oldest_s=60) is None
    assert hit is not None and record.result is not None
    assert decode_answer(job.kind, hit.answer) == decode_answer(job.kind, record.result)


@pytest.mark.req("S0-53", "C20")
@pytest.mark.parametrize(
    "job",
    [
        chat("q"),
        chat("q", cache_as="n", local_only=True),
        chat("q", cache_as="n", no_store=True),
    ],
    ids=["not named", "local only", "no store"],
)
async def test_of_others_nothing_is_kept(redis_url: str, host: Simulator, wait_until: WaitUntil, job: NewJob) -> None:
    async with bench(redis_url, [host.url]) as b:
        await b.run(job, wait_until)
        await only_the_next_is_kept(b, wait_until)


async def test_a_stand_in_s_answer_is_not_kept(redis_url: str, host: Simulator, wait_until: WaitUntil) -> None:
    fault(host, model="llama3.2")
    async with bench(redis_url, [host.url], fallback=FallbackPolicy(models=["phi3"])) as b:
        record = await b.run(chat("q", cache_as="n"), wait_until)
        assert record.state is State.SUCCEEDED
        await only_the_next_is_kept(b, wait_until)
