"""Services that come and go at run time: shared by all processes, without secrets, and no cloud as ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.errors import BadRequest, Forbidden, QueueUnavailable, ServiceConflict
from shared.queue.keys import Keys
from shared.services import registrations
from shared.services.config import ServiceConfig
from shared.services.registrations import Registrations
from shared.services.registry import Registry
from tests.conftest import WaitUntil
from tests.house.redis_server import free_port

KEYS = Keys("gw")
SECRET = "a-key-of-the-team"
TEAM: dict[str, Any] = {
    "name": "team", "api_format": "openai", "urls": ["https://llm.team.example/v1"],
    "api_key_env_var": "SERVICE_KEY_TEAM",
}  # fmt: skip
Make = Callable[..., Registrations]


@pytest.fixture
async def make(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Registrations of one more process on the same Redis."""
    monkeypatch.setattr(registrations, "READ_EVERY_S", 0.05)
    monkeypatch.setenv("SERVICE_KEY_TEAM", SECRET)
    async with AsyncExitStack() as stack:

        def one(*, allowed: bool = True, url: str = redis_url, **fields: Any) -> Registrations:
            redis = Redis.from_url(url)
            stack.push_async_callback(redis.aclose)
            registry = Registry([ServiceConfig.model_validate({"name": "ollama"})], airgap=fields.get("airgap", False))
            made = Registrations(redis, KEYS, registry, allowed=allowed, **fields)
            stack.push_async_callback(made.stop)
            return made

        yield one


def names(made: Registrations) -> list[str]:
    return [service.name for service in made._registry.all()]


@pytest.mark.req("S2-32", "S2-33", "S4-11", "S4-69", "S0-14")
async def test_every_process_sees_what_one_registered(make: Make, redis_url: str, wait_until: WaitUntil) -> None:
    changed: list[int] = []
    here, there = make(), make(on_change=lambda: changed.append(1))
    await there.start()
    registered = await here.register(TEAM)
    assert (registered.key, registered.local) == (SECRET, False)
    await here.set_default("team")
    await wait_until(lambda: there._registry.default_service == "team", description="told")
    assert names(there) == ["ollama", "team"]
    assert there.names == {"team"}
    assert len(changed) == 1, "the default alone is no other set of services"
    assert await here.unregister("team")
    assert not await here.unregister("team")
    await wait_until(lambda: names(there) == ["ollama"], description="told")
    assert there._registry.default_service == "ollama", "the chosen one is gone"
    await here.set_default("")


@pytest.mark.req("S4-57", "S4-71")
async def test_no_secret_is_stored(make: Make, redis_url: str) -> None:
    await make().register(TEAM)
    async with Redis.from_url(redis_url) as redis:
        stored = await redis.hgetall(KEYS.services)
    assert SECRET not in str(stored)
    assert b"SERVICE_KEY_TEAM" in stored[b"team"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"api_key": "x"}, "api_key"),
        ({"api_key_file": "/etc/passwd"}, "api_key_file"),
        ({"api_key_env_var": "REDIS_PASSWORD"}, "api_key_env_var"),
        ({"api_key_env_var": "OPENAI_API_KEY"}, "api_key_env_var"),
        ({"api_key_env_var": "SERVICE_KEY_OF_NOBODY"}, "api_key_env_var"),
        ({"api_key_env_var": ""}, "api_key_env_var"),
        ({"local": True}, "local"),
        ({"local": True, "urls": ["http://127.0.0.1:1/v1", "http://8.8.8.8/v1"]}, "local"),
        ({"preset": "lm_studio", "urls": ["http://studio/v1"]}, "local"),
        ({"urls": ["file:///etc/passwd"]}, "urls"),
        ({"urls": []}, "urls"),
        ({"name": "Te~am"}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_registered(
    make: Make, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], param: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdefghij")
    here = make()
    with pytest.raises(BadRequest) as refused:
        await here.register(TEAM | change)
    assert refused.value.param == param
    assert names(here) == ["ollama"]


@pytest.mark.req("S2-32")
async def test_a_preset_brings_no_key_of_this_process_along(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdefghij")
    with pytest.raises(BadRequest, match="no API key"):
        await make().register({"name": "mine", "preset": "openai", "urls": ["https://attacker.example/v1"]})


async def test_at_home_a_service_needs_no_key_and_may_be_changed(make: Make) -> None:
    here = make()
    studio = {"name": "studio", "preset": "lm_studio", "urls": ["http://10.0.0.5:1234/v1"]}
    assert (await here.register(studio)).local
    assert (await here.register(studio | {"models": ["qwen3"]})).models == ("qwen3",)
    assert names(here) == ["ollama", "studio"]


@pytest.mark.req("S3-22")
async def test_in_airgap_mode_no_cloud_can_be_registered(make: Make, redis_url: str) -> None:
    here, elsewhere = make(airgap=True), make()
    with pytest.raises(BadRequest, match="AIRGAP_MODE"):
        await here.register(TEAM)
    await elsewhere.register(TEAM)
    await here.read()
    assert names(here) == ["ollama"], "nor by a process that is not in that mode"


async def test_the_settings_services_are_not_changed_and_an_unknown_one_is_no_default(make: Make) -> None:
    here = make()
    for change in (here.register(TEAM | {"name": "ollama"}), here.unregister("ollama")):
        with pytest.raises(ServiceConflict):
            await change
    with pytest.raises(BadRequest):
        await here.set_default("nobody")


async def test_without_the_setting_nothing_is_read_or_changed(make: Make, wait_until: WaitUntil) -> None:
    await make().register(TEAM)
    shut = make(allowed=False)
    await shut.start()
    for change in (shut.register(TEAM), shut.unregister("team"), shut.set_default("auto")):
        with pytest.raises(Forbidden, match="ALLOW_SERVICE_REGISTRATION"):
            await change
    assert names(shut) == ["ollama"]


async def test_what_nobody_could_have_registered_is_left_out(make: Make, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        forged = '{"name": "forged", "api_format": "openai", "urls": ["https://x.example/v1"], "local": true}'
        for name, text in (("forged", forged), ("broken", "{"), ("list", "[]")):
            await redis.hset(KEYS.services, name, text)
    here = make()
    await here.register(TEAM)
    assert names(here) == ["ollama", "team"]


async def test_with_redis_away_a_change_says_so_and_what_was_known_stays(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "LIMIT_S", 0.2)
    away = make(url=f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(QueueUnavailable):
        await away.register(TEAM)
    assert names(away) == ["ollama"]
