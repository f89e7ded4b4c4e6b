"""A job's road over several services, on simulators: Ollama's own face, and its OpenAI face as a cloud."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from infra.simulator import Simulator, running
from shared.errors import ArrieroError, NoLocalBackend
from shared.jobs import JobRecord, State
from shared.resilience.breaker import BreakerPolicy
from shared.routes import Candidate, Route
from shared.services.config import ServiceConfig
from tests.conftest import WaitUntil
from tests.house.redis_server import free_port
from tests.worker.rig import INSTANT, bench, chat, embedding, fault, text_of
from tests.worker.scripted_backend import ScriptedBackend
from worker.fallback import FallbackPolicy
from worker.fallback import Route as Place
from worker.hosts import Hosts

Start = Callable[..., Any]
KEY = "sk-cloud-0123456789abcdef"
MODELS = "llama3.2,mistral,nomic-embed-text"


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> Simulator:
            return await stack.enter_async_context(running(**{**INSTANT, "models": MODELS, **options}))

        yield make


def ollama(*urls: str, **fields: Any) -> ServiceConfig:
    return ServiceConfig.model_validate({"name": "ollama", "urls": list(urls)} | fields)


def cloud(simulator: Simulator, name: str = "openai", **fields: Any) -> ServiceConfig:
    """A simulator as somebody else's service."""
    given = {"name": name, "api_format": "openai", "urls": [simulator.url + "/v1"], "api_key": KEY}
    return ServiceConfig.model_validate(given | fields)


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def asked(simulator: Simulator) -> list[str]:
    """The models of the calls that brought a prompt."""
    return [
        call.model.removesuffix(":latest")
        for call in simulator.calls.entries("call")
        if call.path not in ("/v1/models", "/api/tags", "/api/ps", "/api/version")
    ]


def places(record: JobRecord) -> list[str]:
    return [attempt.backend for attempt in record.attempts]


@pytest.mark.req("S2-04", "S2-16", "S2-31", "S3-23", "S3-30", "C20")
async def test_with_its_service_down_a_job_goes_on_at_another_that_has_the_model(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    other, last = await start(models="mistral"), await start()
    services = [ollama(nowhere()), cloud(other, "first"), cloud(last, "second")]
    with capture_logs() as logs:
        async with bench(redis_url, [], services=services) as b:
            record = await b.run(chat(), wait_until)
    answer = text_of(record)
    assert (answer.service, answer.model, answer.fallback_from) == ("second", "llama3.2", "ollama~llama3.2")
    assert (asked(other), asked(last)) == ([], ["llama3.2"]), "nothing is sent to who does not have the model"
    [told] = [entry for entry in logs if entry["event"] == "job.fell_back"]
    assert (told["means"], told["asked"], told["served"]) == ("service", "ollama~llama3.2", "second~llama3.2")


@pytest.mark.req("S2-04", "S2-31")
async def test_a_model_that_is_missing_is_asked_for_elsewhere_at_no_cost(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    ours, theirs = await start(models="mistral"), await start()
    async with bench(redis_url, [], services=[ollama(ours.url), cloud(theirs)]) as b:
        record = await b.run(chat(), wait_until)
    assert (text_of(record).service, record.failures) == ("openai", 0)


@pytest.mark.req("S2-04", "S3-23", "S3-39")
async def test_an_open_circuit_sends_jobs_elsewhere_at_once(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    ours, theirs = await start(), await start()
    fault(ours, "status", status=500)
    breaker = BreakerPolicy(failures=2, open_s=600.0, open_cap_s=600.0)
    async with bench(redis_url, [], services=[ollama(ours.url), cloud(theirs)], breaker=breaker) as b:
        first = await b.run(chat(), wait_until)
        before = len(asked(ours))
        second = await b.run(chat(), wait_until)
        assert (text_of(first).service, text_of(second).service) == ("openai", "openai")
        assert (first.failures, second.failures) == (2, 0)
        assert len(asked(ours)) == before


@pytest.mark.req("S3-23", "S3-38")
async def test_a_service_has_a_model_of_its_own_for_what_others_could_not_serve(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    theirs = await start(models="mistral")
    services = [ollama(nowhere()), cloud(theirs, default_model="mistral")]
    async with bench(redis_url, [], services=services) as b:
        answer = text_of(await b.run(chat(), wait_until))
    assert (answer.service, answer.model, answer.fallback_from) == ("openai", "mistral", "ollama~llama3.2")


async def test_a_stand_in_at_a_dead_host_does_not_take_the_turn_of_a_service_that_lives(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    theirs = await start(models="gpt")
    services = [ollama(nowhere()), cloud(theirs, default_model="gpt")]
    async with bench(redis_url, [], services=services, fallback=FallbackPolicy(models=["mistral"])) as b:
        assert text_of(await b.run(chat(), wait_until)).service == "openai"


@pytest.mark.req("S2-16", "S3-30", "S3-40")
@pytest.mark.parametrize("why", ["switched off", "the caller named the service"])
async def test_no_other_service_steps_in(redis_url: str, start: Start, wait_until: WaitUntil, why: str) -> None:
    theirs = await start()
    route = Route(candidates=(Candidate("ollama", "llama3.2"),), explicit=why != "switched off")
    services = [ollama(nowhere()), cloud(theirs, default_model="mistral")]
    async with bench(redis_url, [], services=services, across=why != "switched off") as b:
        record = await b.run(chat(route=route), wait_until)
    assert record.error is not None
    assert (record.state, record.error.code) == (State.DEAD_LETTERED, "backend_unreachable")
    assert asked(theirs) == []


async def test_candidates_are_tried_in_their_order_and_a_service_that_is_gone_is_passed_over(
    redis_url: str, start: Start, wait_until: WaitUntil
) -> None:
    ours, theirs = await start(), await start()
    candidates = (Candidate("gone", "x"), Candidate("openai", "mistral"), Candidate("ollama", "llama3.2"))
    async with bench(redis_url, [], services=[ollama(ours.url), cloud(theirs)]) as b:
        answer = text_of(await b.run(chat(route=Route(candidates=candidates)), wait_until))
        assert (answer.service, answer.model) == ("openai", "mistral")
        alone = await b.run(chat(route=Route(candidates=candidates[:1], explicit=True)), wait_until)
        assert alone.error is not None
        assert alone.error.code == "service_unavailable"


@pytest.mark.req("S2-07", "S2-08", "S2-38")
@pytest.mark.parametrize(
    ("name", "service", "model"),
    [
        ("mistral", "ollama", "mistral"),
        ("ollama:mistral", "ollama", "mistral"),
        ("openai~vendor/model", "openai", "vendor/model"),
        ("openai:vendor/model", "openai", "vendor/model"),
    ],
)
async def test_without_a_route_the_name_says_where(
    redis_url: str, start: Start, wait_until: WaitUntil, name: str, service: str, model: str
) -> None:
    ours, theirs = await start(), await start(models="vendor/model")
    async with bench(redis_url, [], services=[ollama(ours.url), cloud(theirs)]) as b:
        answer = text_of(await b.run(chat(model=name), wait_until))
    assert (answer.service, answer.model.removesuffix(":latest"), answer.fallback_from) == (service, model, "")


async def test_vectors_of_another_service_do_not_mix_in(redis_url: str, start: Start, wait_until: WaitUntil) -> None:
    theirs = await start()
    async with bench(redis_url, [], services=[ollama(nowhere()), cloud(theirs, default_model="mistral")]) as b:
        record = await b.run(embedding(), wait_until)
        assert record.state is State.DEAD_LETTERED
        assert asked(theirs) == []
        route = Route(candidates=(Candidate("openai", "nomic-embed-text"), Candidate("ollama", "mistral")))
        assert (await b.run(replace(embedding(), route=route), wait_until)).state is State.SUCCEEDED
    assert asked(theirs) == ["nomic-embed-text"]


@pytest.mark.req("S4-56", "S2-42")
async def test_the_urls_of_a_service_share_its_jobs(redis_url: str, start: Start, wait_until: WaitUntil) -> None:
    one, two = await start(), await start()
    service = cloud(one, urls=[one.url + "/v1", two.url + "/v1"])
    async with bench(redis_url, [], services=[service]) as b:
        backends = [places(await b.run(chat(), wait_until)) for _ in range(2)]
        fault(one)
        record = await b.run(chat(), wait_until)
    assert all(len(tried) == 1 for tried in backends)
    assert text_of(record).backend == two.url.removeprefix("http://")


@pytest.mark.req("C20", "S3-13", "S3-39")
async def test_a_private_job_fails_closed(redis_url: str, start: Start, wait_until: WaitUntil) -> None:
    theirs = await start()
    both = (Candidate("ollama", "llama3.2"), Candidate("openai", "llama3.2"))
    services = [ollama(nowhere()), cloud(theirs, default_model="mistral")]
    async with bench(redis_url, [], services=services) as b:
        down = await b.run(chat(route=Route(candidates=both), local_only=True), wait_until)
        there = await b.run(chat(route=Route(candidates=both[1:], local_only=True, explicit=True)), wait_until)
        named = await b.run(chat(model="openai~mistral", local_only=True), wait_until)
        codes = [record.error and record.error.code for record in (down, there, named)]
        assert codes == ["backend_unreachable", "no_local_backend", "no_local_backend"]
        # Not even when it is replayed for a model of the cloud.
        again = await b.queue.dead_letters.replay(down.id, model="openai~mistral")
        replayed = await b.ended(again.id, wait_until)
        assert replayed.error is not None
        assert replayed.error.code == "no_local_backend"
    assert asked(theirs) == []


def test_the_one_door_to_a_backend_is_shut_for_private_jobs_whatever_was_planned() -> None:
    hosts = Hosts(probe_timeout_s=1)
    hosts.put(ServiceConfig.model_validate({"name": "openai", "api_key": KEY}), [ScriptedBackend(name="far")])
    hosts.put(ollama(nowhere()), [ScriptedBackend(name="near")])
    with hosts.lease(Place("near", "m"), local_only=True), hosts.lease(Place("far", "m")):
        pass
    with pytest.raises(NoLocalBackend), hosts.lease(Place("far", "m"), local_only=True):
        pytest.fail("it was let through")


@pytest.mark.req("S3-19", "S3-23")
async def test_a_silent_service_that_does_not_tell_what_it_has_in_memory_is_judged_by_its_probe() -> None:
    hosts = Hosts(probe_timeout_s=1)
    far, near = ScriptedBackend(name="far"), ScriptedBackend(name="near")
    hosts.put(ServiceConfig.model_validate({"name": "openai", "api_key": KEY}), [far])
    hosts.put(ollama(nowhere()), [near])
    assert [model.name for model in await hosts.asks_loaded(Place("far", "gpt"))()] == ["gpt"]
    assert [model.name for model in await hosts.asks_loaded(Place("near", "gpt"))()] == ["llama3.2"]
    far.up = False
    with pytest.raises(ArrieroError):
        await hosts.asks_loaded(Place("far", "gpt"))()


@pytest.mark.req("S4-11", "S2-32")
async def test_services_come_and_go_while_the_worker_runs(redis_url: str, start: Start, wait_until: WaitUntil) -> None:
    ours, theirs = await start(), await start(first_token_seconds=0.5)
    async with bench(redis_url, [], services=[ollama(ours.url)]) as b:
        late = chat(route=Route(candidates=(Candidate("late", "mistral"),), explicit=True))
        b.registry.take({"late": cloud(theirs, "late")}, "")
        b.fleet.follow()
        job = await b.submit(late)
        place = Place(theirs.url.removeprefix("http://"), "mistral")
        await wait_until(lambda: "late" in b.services_with_calls(place), description="the call is under way")
        b.registry.take({}, "")
        b.fleet.follow()
        assert text_of(await b.ended(job, wait_until)).service == "late", "a call under way is let end"
        gone = await b.run(replace(late, id="job_" + "1" * 32), wait_until)
        assert gone.error is not None
        assert gone.error.code == "service_unavailable"
