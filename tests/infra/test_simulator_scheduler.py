"""Loads, the bounded queue, slots, eviction, keep_alive, reloads and disconnects, seen over HTTP."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.conftest import WaitUntil
from tests.infra.conftest import Start
from tests.infra.simulator_api import Api

SLOW = "go on [tokens=100000]"


def patient(**options: object) -> dict[str, object]:
    """Options of a simulator whose SLOW answers last until they are cancelled."""
    return {"tokens_per_second": 100.0, **options}


async def until_called(api: Api, wait_until: WaitUntil, number: int) -> None:
    await wait_until(lambda: len(api.simulator.calls.entries("call")) >= number, description=f"{number} calls arrived")


async def until_busy(api: Api, wait_until: WaitUntil, slots: int, model: str = "llama3.2:latest") -> None:
    def busy() -> int:
        return sum(runner.busy_slots for runner in api.simulator.scheduler.loaded() if runner.model.shown == model)

    await wait_until(lambda: busy() == slots, description=f"{slots} slots of {model} busy")


async def cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_first_use_pays_for_the_load_and_later_ones_do_not(start: Start) -> None:
    api = await start(load_seconds=0.3)
    cold, warm = (await api.chat()).lines[-1], (await api.chat()).lines[-1]
    assert cold["load_duration"] >= 0.3e9 and warm["load_duration"] < 0.05e9
    [load] = await api.events("load")
    assert load["model"] == "llama3.2:latest" and 0.25 < load["seconds"] < 1 and load["cancelled"] is False


async def test_a_load_lasts_whole_poll_steps(start: Start) -> None:
    api = await start(load_seconds=0.01, ready_poll_seconds=0.2)
    assert (await api.chat()).lines[-1]["load_duration"] >= 0.2e9


async def test_nothing_is_sent_before_the_first_token(start: Start) -> None:
    api = await start(load_seconds=0.2, first_token_seconds=0.2)
    first, _ = await anext(api.timed_lines("/api/generate", {"model": "llama3.2", "prompt": "x"}))
    assert 0.38 < first < 1


async def test_a_loading_model_is_not_listed(start: Start, wait_until: WaitUntil) -> None:
    api = await start(load_seconds=0.3)
    chat = api.start_chat()
    await wait_until(lambda: api.simulator.calls.entries("load"), description="the load began")
    assert await api.loaded() == []
    await chat
    assert await api.loaded() == ["llama3.2:latest"]


async def test_loads_come_one_at_a_time_in_order(start: Start) -> None:
    api = await start(load_seconds=0.2, max_loaded_models=3, models="a,b,c")
    started = time.perf_counter()
    await asyncio.gather(*(api.chat(model=name) for name in "abc"))
    assert time.perf_counter() - started >= 0.6
    loads = await api.events("load")
    assert [load["model"] for load in loads] == ["a:latest", "b:latest", "c:latest"]
    assert loads[1]["at"] >= loads[0]["at"] + 0.2


async def test_a_full_queue_answers_503_at_once_and_a_loaded_model_never_does(
    start: Start, wait_until: WaitUntil
) -> None:
    api = await start(load_seconds=30, max_queue=2, models="a,b")
    waiting = [asyncio.create_task(api.chat(model="a")) for _ in range(3)]
    await until_called(api, wait_until, 3)
    refused = await api.chat(model="b")
    assert refused.status == 503
    assert refused.json == {"error": "server busy, please try again.  maximum pending requests exceeded"}
    assert "retry-after" not in refused.headers
    # Those who have gone keep their place until the loop comes to them.
    await cancel(*waiting[1:])
    await wait_until(lambda: sum(call.cancelled for call in api.simulator.calls.entries("call")) == 2)
    assert api.simulator.scheduler.waiting == 2
    assert (await api.chat(model="b")).status == 503
    await cancel(waiting[0])


async def test_slots_are_limited_and_the_wait_for_them_is_not(start: Start) -> None:
    api = await start(parallel=2, first_token_seconds=0.2, max_queue=1)
    await api.chat()
    started = time.perf_counter()
    replies = await asyncio.gather(*(api.chat() for _ in range(6)))
    assert {reply.status for reply in replies} == {200}
    assert 0.58 < time.perf_counter() - started < 1.2
    waited = max(reply.lines[-1]["total_duration"] - reply.lines[-1]["load_duration"] for reply in replies)
    assert waited > 0.55e9


async def test_the_idle_model_with_the_shortest_keep_alive_is_evicted(start: Start) -> None:
    api = await start(max_loaded_models=2, models="a,b,c")
    await api.chat(model="a", keep_alive="10m")
    await api.chat(model="b", keep_alive="5m")
    await api.chat(model="c")
    assert set(await api.loaded()) == {"a:latest", "c:latest"}
    [unload] = await api.events("unload")
    assert unload["model"] == "b:latest"


async def test_a_busy_victim_finishes_first_and_holds_up_everything_behind(start: Start, wait_until: WaitUntil) -> None:
    api = await start(**patient(max_loaded_models=1, models="a,b"))
    busy = api.start_chat("go on [tokens=30]", model="a")
    await until_busy(api, wait_until, 1, "a:latest")
    await api.chat("x [tokens=1]", model="b")
    assert busy.done() and (await busy).lines[-1]["done"] is True
    assert await api.loaded() == ["b:latest"]


async def test_keep_alive_counts_from_the_end_of_the_last_request(start: Start, wait_until: WaitUntil) -> None:
    api = await start(keep_alive_seconds=0.3)
    await api.chat()
    assert await api.loaded() == ["llama3.2:latest"]
    await wait_until(lambda: api.simulator.calls.entries("unload"), 3, description="the model expired")
    [call], [unload] = await api.events("call"), await api.events("unload")
    assert unload["at"] - (call["at"] + call["seconds"]) >= 0.28


@pytest.mark.parametrize(
    ("keep_alive", "year_or_seconds"), [(-1, "forever"), ("-1m", "forever"), ("90s", 90), (1.5, 1.5), ("1m30s", 90)]
)
async def test_keep_alive_forms(api: Api, keep_alive: object, year_or_seconds: object) -> None:
    await api.chat(keep_alive=keep_alive)
    [runner] = api.simulator.scheduler.loaded()
    if year_or_seconds == "forever":
        shown = (await api.get("/api/ps")).json["models"][0]["expires_at"]
        assert int(shown[:4]) > 2300
    else:
        assert runner.keep_alive_s == year_or_seconds


async def test_an_unset_keep_alive_keeps_the_former_value_and_zero_unloads_after_the_answer(api: Api) -> None:
    await api.chat(keep_alive="10m")
    await api.chat()
    assert api.simulator.scheduler.loaded()[0].keep_alive_s == 600
    await api.chat(keep_alive=0)
    assert await api.loaded() == []


async def test_an_unload_answers_at_once_and_happens_when_requests_end(start: Start, wait_until: WaitUntil) -> None:
    api = await start(**patient())
    busy = api.start_chat(SLOW)
    await until_busy(api, wait_until, 1)
    reply = await api.generate("", keep_alive=0)
    assert reply.json["done_reason"] == "unload" and await api.loaded() == ["llama3.2:latest"]
    await cancel(busy)
    await wait_until(lambda: api.simulator.calls.entries("unload"), description="the model left")


async def test_another_context_length_reloads(api: Api) -> None:
    for num_ctx in (2048, 2048, 8192, None):
        await api.chat(options={"num_ctx": num_ctx})
    assert len(await api.events("load")) == 3
    # The default, said aloud, is no change.
    await api.chat(options={"num_ctx": 4096})
    assert len(await api.events("load")) == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_a_disconnect_frees_the_slot_within_a_token(start: Start, wait_until: WaitUntil, stream: bool) -> None:
    api = await start(**patient(parallel=1))
    busy = api.start_chat(SLOW, stream=stream)
    await until_busy(api, wait_until, 1)
    await cancel(busy)
    started = time.perf_counter()
    assert (await api.chat("x [tokens=1]")).status == 200
    assert time.perf_counter() - started < 0.5
    [first, _] = await api.events("call")
    assert (first["status"], first["cancelled"]) == (499, True)


async def test_who_waits_for_a_slot_leaves_the_line_when_gone(start: Start, wait_until: WaitUntil) -> None:
    api = await start(**patient(parallel=1))
    holder = api.start_chat(SLOW)
    await until_busy(api, wait_until, 1)
    waiting = api.start_chat(SLOW)
    await until_called(api, wait_until, 2)
    await cancel(waiting, holder)
    assert (await api.chat("x [tokens=1]")).status == 200


@pytest.mark.parametrize("aborts", [True, False])
async def test_when_the_owner_of_a_load_leaves_the_load_starts_again_unless_switched_off(
    start: Start, wait_until: WaitUntil, aborts: bool
) -> None:
    api = await start(load_seconds=0.5, load_owner_aborts=aborts)
    owner = api.start_chat()
    await until_called(api, wait_until, 1)
    other = api.start_chat()
    await until_called(api, wait_until, 2)
    await cancel(owner)
    assert (await other).status == 200
    loads = await api.events("load")
    assert [load["cancelled"] for load in loads] == ([True, False] if aborts else [False])


async def test_a_model_never_used_after_its_load_still_expires(start: Start, wait_until: WaitUntil) -> None:
    api = await start(load_seconds=0.2, load_owner_aborts=False, keep_alive_seconds=0.1)
    owner = api.start_chat()
    await wait_until(lambda: api.simulator.calls.entries("load"), description="the load began")
    await cancel(owner)
    await wait_until(lambda: api.simulator.calls.entries("unload"), 3, description="the model expired")


async def test_embedding_models_have_one_slot(start: Start) -> None:
    api = await start(embedding_seconds=0.05, parallel=8)
    body = {"model": "nomic-embed-text", "input": ["x", "y"]}
    started = time.perf_counter()
    await asyncio.gather(*(api.post("/api/embed", body) for _ in range(3)))
    assert time.perf_counter() - started >= 0.3
