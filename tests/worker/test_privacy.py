"""A job that must not leave our machines does not, whatever fails, in whatever order: plan, retries, fallback, open
circuits, the cache, replays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import (
    ArrieroError,
    BackendBusy,
    BackendFault,
    BackendMisconfigured,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    ModelFault,
    ModelNotFound,
    NoLocalBackend,
    ServiceUnavailable,
)
from shared.jobs import JobRecord, State
from shared.resilience.answer_store import CachePolicy
from shared.resilience.backoff import RetryPolicy
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.budget import BudgetPolicy
from shared.routes import Candidate, Route
from shared.services.config import ServiceConfig
from shared.services.registry import Registry
from shared.wire.canonical import ChatRequest, CompletionRequest, Delta, EmbeddingRequest, Message
from tests.conftest import _wait_until as wait_for
from tests.worker.rig import Bench, bench, chat
from tests.worker.scripted_backend import FINISH, ScriptedBackend, Step
from worker.fallback import FallbackPolicy
from worker.itinerary import itinerary

KEY = "sk-cloud-0123456789abcdef"
NEAR = ServiceConfig.model_validate({"name": "ollama", "urls": ["http://near-1:1", "http://near-2:1"]})
ALSO_NEAR = ServiceConfig.model_validate({"name": "lm_studio", "models": ["llama3.2", "gpt"]})
FAR = ServiceConfig.model_validate({"name": "openai", "api_key": KEY, "models": ["llama3.2"], "default_model": "gpt"})
FARTHER = ServiceConfig.model_validate({"name": "anthropic", "api_key": KEY, "default_model": "claude"})
SERVICES = (NEAR, ALSO_NEAR, FAR, FARTHER)

services = st.sampled_from([service.name for service in SERVICES] + ["unknown"])
models = st.sampled_from(["llama3.2", "mistral", "gpt", "claude"])
candidates = st.lists(st.builds(Candidate, services, models), min_size=1, max_size=4).map(tuple)
routes = st.none() | st.builds(Route, candidates=candidates, local_only=st.booleans(), explicit=st.booleans())
names = models | st.builds(lambda service, sign, model: service + sign + model, services, st.sampled_from("~:"), models)


# -- the plan -------------------------------------------------------------------------------------------------------

requests = st.one_of(
    st.builds(ChatRequest, model=names, messages=st.just([Message(role="user", content="x")])),
    st.builds(CompletionRequest, model=names, prompt=st.just("x"), raw=st.booleans()),
    st.builds(EmbeddingRequest, model=names, inputs=st.just(["x"])),
)
stand_ins = st.lists(names, max_size=3)


@pytest.mark.req("C20", "S3-13")
@given(
    request_=requests, route=routes, policy=st.builds(FallbackPolicy, models=stand_ins), across=st.booleans(),
    flagged=st.booleans(), in_force=st.sets(st.sampled_from(SERVICES)), default=services,
)  # fmt: skip
@settings(max_examples=500)
def test_no_plan_of_a_private_job_has_a_service_that_is_not_ours(
    request_: Any, route: Route | None, policy: FallbackPolicy, across: bool, flagged: bool,
    in_force: set[ServiceConfig], default: str,
) -> None:  # fmt: skip
    registry = Registry(in_force, default=default)
    is_private = flagged or (route is not None and route.local_only)
    try:
        found = itinerary(request_, route, registry, policy, local_only=flagged, across=across)
    except (NoLocalBackend, ServiceUnavailable):
        return
    assert all(step.service in registry for step in found.steps)
    ours = {service.name for service in registry.local()}
    assert not is_private or {step.service for step in found.steps} <= ours
    assert len({(step.service, step.model) for step in found.steps}) == len(found.steps)


# -- the whole road -------------------------------------------------------------------------------------------------


def broken_off() -> ArrieroError:
    error = BackendProtocolError()
    error.broke_off = True
    return error


FAILURES: tuple[Callable[[], ArrieroError], ...] = (
    BackendUnreachable, BackendTimeout, BackendFault, BackendRejected, BackendMisconfigured, ModelNotFound, ModelFault,
    lambda: BackendBusy(retry_after_s=0.05), broken_off,
)  # fmt: skip
GOOD: Sequence[Step] = (Delta(content="ok"), FINISH)
calls = st.one_of(
    st.just(GOOD),
    st.sampled_from(FAILURES).map(lambda failure: (failure(),)),
    st.sampled_from(FAILURES).map(lambda failure: (Delta(content="half an ans"), failure())),
)
scripts = st.lists(calls, min_size=1, max_size=5)


@dataclass(frozen=True)
class Wanted:
    """A job of the test, and what is done once it is a dead letter."""

    private: bool
    name: str
    route: Route | None
    keeps_events: bool
    replays: Sequence[str]


wanted = st.builds(
    Wanted, st.just(True) | st.booleans(), names, routes, st.booleans(), st.lists(st.just("") | names, max_size=2)
)


class World:
    """One worker on our hosts and others', whose backends fail as they are told."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.backends: dict[str, ScriptedBackend] = {}
        self.bench: Bench

    def _make(self, service: ServiceConfig) -> Sequence[ScriptedBackend]:
        made = [ScriptedBackend(name=f"{service.name}-{number}") for number, _ in enumerate(service.urls)]
        self.backends |= {backend.name: backend for backend in made}
        return made

    def __enter__(self) -> World:
        self.bench = self._runner.run(
            self._stack.enter_async_context(
                bench(
                    self._url, [], services=SERVICES, backends_of=self._make, cache=CachePolicy(),
                    fallback=FallbackPolicy(models=["mistral", "openai~gpt"]),
                    retry=RetryPolicy(tries=4, base_s=0.005, cap_s=0.02),
                    breaker=BreakerPolicy(failures=2, open_s=0.1, open_cap_s=0.2),
                    budget=BudgetPolicy(size=1000.0, per_success=1.0, per_s=1000.0),
                )
            )
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def run(self, jobs: Sequence[Wanted]) -> list[JobRecord]:
        async def all_of_them() -> list[JobRecord]:
            return await asyncio.gather(*(self._one(job) for job in jobs))

        return self._runner.run(all_of_them())

    async def _one(self, job: Wanted) -> JobRecord:
        text = "private words" if job.private else "words"
        new = chat(
            text, job.name, route=job.route, local_only=job.private, keep_events=job.keeps_events, tenant="t",
            timeout_s=3.0,
        )  # fmt: skip
        record = await self.bench.run(new, wait_for)
        for model in job.replays:
            if record.state is State.DEAD_LETTERED:
                again = await self.bench.queue.dead_letters.replay(record.id, model=model)
                record = await self.bench.ended(again.id, wait_for)
        return record

    def saw(self, service: ServiceConfig, text: str) -> bool:
        """Whether a backend of the service was given a request with that text."""
        return any(
            text in message.content
            for number, _ in enumerate(service.urls)
            for request in self.backends[f"{service.name}-{number}"].calls
            if isinstance(request, ChatRequest)
            for message in request.messages
        )


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with World(redis_url) as made:
        yield made


def never_leaves(world: World, jobs: Sequence[Wanted], told: dict[str, list[Sequence[Step]]]) -> None:
    for name, backend in world.backends.items():
        backend.calls.clear()
        backend.play(told[name])
    ended = world.run(jobs)
    assert all(record.state.is_terminal for record in ended)
    for service in (FAR, FARTHER):
        assert not world.saw(service, "private")


JOBS = st.lists(wanted, min_size=1, max_size=4)
TOLD = st.fixed_dictionaries(
    {f"{service.name}-{number}": scripts for service in SERVICES for number, _ in enumerate(service.urls)}
)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.req("C20", "S3-13", "S3-23")
@given(jobs=JOBS, told=TOLD)
@settings(max_examples=15, deadline=None, suppress_health_check=QUIET)
def test_a_private_job_reaches_no_cloud(
    world: World, jobs: list[Wanted], told: dict[str, list[Sequence[Step]]]
) -> None:
    never_leaves(world, jobs, told)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(jobs=JOBS, told=TOLD)
@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
def test_a_private_job_reaches_no_cloud_at_length(
    world: World, jobs: list[Wanted], told: dict[str, list[Sequence[Step]]]
) -> None:
    never_leaves(world, jobs, told)


def test_other_jobs_do_reach_it(world: World) -> None:
    """Else the property would prove nothing."""
    for service in SERVICES:
        for number, _ in enumerate(service.urls):
            world.backends[f"{service.name}-{number}"].play([GOOD] if not service.local else [(BackendUnreachable(),)])
    both = [Wanted(private, "llama3.2", None, keeps_events=False, replays=()) for private in (False, True)]
    public, private = world.run(both)
    assert (public.state, private.state) == (State.SUCCEEDED, State.DEAD_LETTERED)
    assert world.saw(FAR, "words")
    assert not world.saw(FAR, "private")
