"""The last resort: an answer given before, when nothing can answer now."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from infra.simulator import Simulator, running
from shared.jobs import NewJob, State
from shared.resilience.answer_store import CachePolicy
from shared.resilience.breaker import BreakerPolicy
from shared.routes import Candidate, Route
from shared.services.config import ServiceConfig
from tests.conftest import WaitUntil
from tests.worker.rig import INSTANT, bench, calls, chat, fault, text_of
from worker.fallback import FallbackPolicy

KEEP = CachePolicy()


@pytest.fixture
async def host() -> AsyncIterator[Simulator]:
    async with running(**INSTANT, models="llama3.2") as simulator:
        yield simulator


@pytest.mark.req("S1-48", "C19")
async def test_when_all_tries_failed_the_same_question_gets_the_earlier_answer(
    redis_url: str, host: Simulator, wait_until: WaitUntil
) -> None:
    async with bench(redis_url, [host.url], cache=KEEP, breaking=False) as b:
        fresh = text_of(await b.run(chat("why"), wait_until))
        fault(host)
        stale = text_of(await b.run(chat("why"), wait_until))
        other = await b.run(chat("why not"), wait_until)
        strangers = await b.run(chat("why", tenant="other"), wait_until)
        private = await b.run(chat("why", no_store=True), wait_until)
    assert not fresh.cached
    assert stale == replace(fresh, cached=True)
    assert len(calls(host)) == 1 + 3 * 4, "asked last, after the tries"
    assert [record.state for record in (other, strangers, private)] == [State.DEAD_LETTERED] * 3


@pytest.mark.parametrize(
    "job", [chat("q", no_store=True), chat("q", tools=[{"type": "function", "function": {"name": "f"}}])]
)
async def test_private_and_tool_requests_are_not_kept(
    redis_url: str, host: Simulator, wait_until: WaitUntil, job: NewJob
) -> None:
    async with bench(redis_url, [host.url], cache=KEEP, breaking=False) as b:
        await b.run(job, wait_until)
        assert not [key async for key in b.queue.redis.scan_iter(match=b.queue.keys.root + "answer*")]


async def test_with_every_circuit_open_it_comes_at_once(redis_url: str, host: Simulator, wait_until: WaitUntil) -> None:
    async with bench(redis_url, [host.url], cache=KEEP, breaker=BreakerPolicy(failures=3, open_s=30)) as b:
        await b.run(chat("why"), wait_until)
        fault(host)
        await b.run(chat("why"), wait_until)
        host.calls.clear()
        record = await b.run(chat("why"), wait_until)
    assert text_of(record).cached
    assert calls(host) == []
    assert len(record.attempts) == 1


async def test_the_callers_mistake_gets_no_cached_answer(
    redis_url: str, host: Simulator, wait_until: WaitUntil
) -> None:
    async with bench(redis_url, [host.url], cache=KEEP) as b:
        await b.run(chat("why"), wait_until)
        fault(host, status=400)
        record = await b.run(chat("why"), wait_until)
    assert record.state is State.DEAD_LETTERED


async def test_switched_off_with_the_other_fallbacks(redis_url: str, host: Simulator, wait_until: WaitUntil) -> None:
    async with bench(redis_url, [host.url], cache=KEEP, fallback=FallbackPolicy(enabled=False), breaking=False) as b:
        await b.run(chat("why"), wait_until)
        fault(host)
        record = await b.run(chat("why"), wait_until)
    assert record.state is State.DEAD_LETTERED


@pytest.mark.req("S1-48")
async def test_the_answer_of_one_service_does_not_stand_in_for_that_of_another(
    redis_url: str, host: Simulator, wait_until: WaitUntil
) -> None:
    given = {"api_format": "openai", "urls": [host.url + "/v1"], "api_key": "sk-cloud-0123456789abcdef"}
    services = [ServiceConfig.model_validate(given | {"name": name}) for name in ("one", "other")]

    def ask(service: str) -> NewJob:
        return chat("why", route=Route(candidates=(Candidate(service, "llama3.2"),), explicit=True))

    async with bench(redis_url, [], services=services, cache=KEEP, breaking=False) as b:
        await b.run(ask("one"), wait_until)
        fault(host)
        same = text_of(await b.run(ask("one"), wait_until))
        other = await b.run(ask("other"), wait_until)
    assert (same.cached, same.service) == (True, "one")
    assert other.state is State.DEAD_LETTERED
