"""How the services are, and what was done with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.simulator import Simulator, running
from shared.services.backends import ServiceBackends
from shared.services.config import ServiceConfig
from shared.services.health import ServiceHealths
from shared.services.registry import Registry
from shared.services.statistics import by_service, host_name
from shared.usage.figures import Histogram, ModelUsage, OperationUsage
from tests.conftest import WaitUntil
from tests.house.redis_server import free_port
from tests.worker.rig import INSTANT

KEY = "sk-cloud-0123456789abcdef"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with running(**INSTANT, models="llama3.2") as one:
        yield one


def dead() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.req("S2-05", "S2-14", "S3-08", "S3-26", "S4-12", "C9")
async def test_one_look_asks_every_host_of_every_service(simulator: Simulator) -> None:
    registry = Registry(
        [
            ServiceConfig.model_validate({"name": "ollama", "urls": [dead(), simulator.url]}),
            ServiceConfig.model_validate({"name": "openai", "urls": [dead() + "/v1"], "api_key": KEY}),
            ServiceConfig.model_validate({"name": "mock"}),
        ]
    )
    backends = ServiceBackends(registry, pool_size=2)
    healths = ServiceHealths(backends, every_s=60, probe_s=5)
    assert healths.latest("ollama") is None
    found = {health.service: health for health in await healths.check_all()}
    ours, theirs = found["ollama"], found["openai"]
    assert [host.is_up for host in ours.hosts] == [False, True]
    assert ours.is_up
    assert ours.latency_s == ours.hosts[1].latency_s
    assert (theirs.is_up, theirs.error, theirs.latency_s) == (False, "backend_unreachable", None)
    assert found["mock"].is_up
    assert healths.latest("openai") == theirs
    registry.take({}, "")
    await backends.aclose()


@pytest.mark.req("S2-05", "S2-25", "S2-26", "S4-12")
async def test_it_is_looked_at_by_itself_if_wanted(simulator: Simulator, wait_until: WaitUntil) -> None:
    registry = Registry([ServiceConfig.model_validate({"name": "ollama", "urls": [simulator.url]})])
    backends = ServiceBackends(registry, pool_size=2)
    left_alone = ServiceHealths(backends, every_s=0.01, probe_s=5, automatic=False)
    watched = ServiceHealths(backends, every_s=0.01, probe_s=5)
    for healths in (left_alone, watched):
        await healths.start()

    def looks() -> list[float]:
        health = watched.latest("ollama")
        if health is not None and health.checked_at not in seen:
            seen.append(health.checked_at)
        return seen

    seen: list[float] = []
    await wait_until(lambda: len(looks()) > 2, description="looked at again and again")
    assert left_alone.latest("ollama") is None
    for healths in (left_alone, watched):
        await healths.stop()
    await backends.aclose()


@pytest.mark.req("S4-11", "S0-14")
async def test_backends_follow_the_services(simulator: Simulator) -> None:
    ollama = ServiceConfig.model_validate({"name": "ollama", "urls": [simulator.url]})
    registry = Registry([ollama])
    backends = ServiceBackends(registry, pool_size=2)
    [before] = backends.of("ollama")
    assert await before.models()
    late = ServiceConfig.model_validate({"name": "late", "api_format": "mock", "urls": ["mock://x"], "local": True})
    registry.take({"late": late}, "")
    assert [service.name for service in backends.services] == ["ollama", "late"]
    assert backends.of("ollama") == [before], "untouched"
    assert backends.hosts() == {before.name: "ollama", "x": "late"}
    registry.take({"late": late.model_copy(update={"urls": ("mock://y", "mock://z")})}, "")
    assert [backend.name for backend in backends.of("late")] == ["y", "z"]
    registry.take({}, "")
    assert backends.of("late") == ()
    await asyncio.sleep(0)
    await backends.aclose()


def test_hosts_have_names_of_their_own() -> None:
    taken: list[str] = []
    for backend, service in (("a:1", "ollama"), ("a:1", "team"), ("a:1", "team"), ("b:1", "team")):
        taken.append(host_name(backend, service, taken))
    assert taken == ["a:1", "team/a:1", "team/a:1-2", "b:1"]


@pytest.mark.req("S3-10", "S3-27")
def test_figures_of_models_and_hosts_add_up_to_services() -> None:
    def used(model: str, host: str, calls: int, at: float) -> ModelUsage:
        latency = Histogram((calls,) + (0,) * (len(Histogram().counts) - 1), total_s=calls * 0.5)
        done = OperationUsage(
            calls=calls, failures={"backend_timeout": 1}, latency=latency, tokens_in=calls, tokens_out=2 * calls
        )
        return ModelUsage(model=model, host=host, operations={"chat": done, "completion": done}, last_used_at=at)

    usages = [used("a", "h1", 1, 10.0), used("b", "h2", 2, 30.0), used("a", "gone", 4, 40.0)]
    first, idle = by_service(usages, ["ollama", "openai"], {"h1": "ollama", "h2": "ollama", "h3": "openai"})
    assert (first.requests, first.failures, first.tokens_in, first.tokens_out) == (6, 4, 6, 12)
    assert (first.mean_latency_s, first.last_used_at) == (0.5, 30.0)
    assert first.p95_latency_s is not None
    assert (idle.requests, idle.mean_latency_s, idle.p95_latency_s, idle.last_used_at) == (0, None, None, 0.0)
