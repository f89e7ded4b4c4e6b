"""Orders: one at a time on a model and host, found again, and nothing that is no name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.progress import Download
from shared.backends.ollama_models import PullProgress
from shared.errors import BadRequest, OperationConflict, OperationNotFound
from shared.jobs import Kind, NewJob, State
from shared.operations.orders import Orders, check_model, models_shard
from shared.queue.client import QueueClient
from shared.queue.scripts import Scripts
from shared.wire.codec import encode
from shared.wire.operations import HostProgress, ModelOperation, OperationName, OperationProgress
from tests.manager.programs import queue_client
from tests.shared.queue.rig import claim, publish, settle

HOSTS = ["a:1", "b:1"]


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[QueueClient]:
    async with queue_client(redis_url, models_shard("gw")) as client:
        yield client


@pytest.fixture
def orders(queue: QueueClient) -> Orders:
    return Orders(queue, HOSTS)


def order(op: OperationName = "load", host: str = "", model: str = "phi3") -> ModelOperation:
    return ModelOperation(op=op, model=model, host=host)


async def finish(queue: QueueClient, verdict: str = "succeeded") -> str:
    """Run the next operation by hand; its id."""
    scripts = Scripts(queue.redis, queue.keys)
    [job] = await claim(scripts)
    await settle(scripts, job.id, job.token, verdict, error=b"@internal_error" if verdict != "succeeded" else b"")
    return job.id


async def test_the_same_order_is_the_same_operation_until_it_has_ended(orders: Orders, queue: QueueClient) -> None:
    placed = await asyncio.gather(*(orders.place(order(model=name), by="t") for name in ("phi3", "Phi3:latest")))
    assert placed[0].record.id == placed[1].record.id
    assert placed[0].record.kind is Kind.MODEL_OP
    assert await finish(queue) == placed[0].record.id
    again = await orders.place(order(), by="t")
    assert again.record.id != placed[0].record.id
    assert again.record.state is State.QUEUED
    assert [found.record.id for found in await orders.under_way()] == [again.record.id]
    assert {found.record.id for found in await orders.list()} == {again.record.id, placed[0].record.id}


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (order("load"), order("unload"), True),
        (order("load"), order("load", "a:1"), True),
        (order("pull", "a:1"), order("delete"), True),
        (order("pull", "a:1"), order("delete", "a:1"), True),
        (order("pull", "a:1"), order("pull", "b:1"), False),
        (order("pull", "a:1"), order("load", "a:1", "mistral"), False),
    ],
)
async def test_another_one_on_the_same_place_is_refused(
    orders: Orders, queue: QueueClient, first: ModelOperation, second: ModelOperation, clash: bool
) -> None:
    one = await orders.place(first, by="t")
    if clash:
        with pytest.raises(OperationConflict, match=one.record.id):
            await orders.place(second, by="t")
        await orders.cancel(one.record.id)
    assert (await orders.place(second, by="t")).op == second.op


async def test_two_managers_number_alike_after_many(queue: QueueClient, redis_url: str) -> None:
    async with queue_client(redis_url, models_shard("gw")) as other_queue:
        one, other = Orders(queue, HOSTS), Orders(other_queue, HOSTS)
        seen = set()
        for _ in range(5):
            placed = await asyncio.gather(one.place(order(), by="t"), other.place(order(), by="t"))
            assert placed[0].record.id == placed[1].record.id
            seen.add(await finish(queue))
        assert len(seen) == 5


async def test_the_latest_progress_is_read_from_the_job(orders: Orders, queue: QueueClient) -> None:
    placed = await orders.place(order("pull", "a:1"), by="t")
    scripts = Scripts(queue.redis, queue.keys)
    [job] = await claim(scripts)
    assert (await orders.get(job.id)).progress == OperationProgress()
    for seq, done in enumerate((10, 30), start=1):
        step = OperationProgress(hosts=[HostProgress(host="a:1", completed_bytes=done, total_bytes=100)])
        await publish(scripts, job, seq, encode([step]))
    found = await orders.get(placed.record.id)
    assert (found.progress.completed_bytes, found.progress.total_bytes) == (30, 100)
    waiting = asyncio.create_task(orders.wait(job.id, 10))
    await asyncio.sleep(0)
    await settle(scripts, job.id, job.token)
    assert (await waiting).record.state is State.SUCCEEDED


async def test_what_failed_lately_is_known(orders: Orders, queue: QueueClient) -> None:
    assert not await orders.has_failed(order(), within_s=60, now=0)
    placed = await orders.place(order(), by="t")
    now = placed.record.created_at
    assert not await orders.has_failed(order(), within_s=60, now=now)
    await finish(queue, "dead_lettered")
    assert await orders.has_failed(order(), within_s=60, now=now)
    assert not await orders.has_failed(order("unload"), within_s=60, now=now)
    assert not await orders.has_failed(order(), within_s=60, now=now + 120)


async def test_unknown_operations_and_hosts(orders: Orders, queue: QueueClient) -> None:
    with pytest.raises(OperationNotFound):
        await orders.get("op_nothing_0")
    with pytest.raises(OperationNotFound):
        await orders.cancel("op_nothing_0")
    await queue.enqueue(NewJob(id="cron_x", kind=Kind.MAINTENANCE, model="", request={}, tenant="models"))
    with pytest.raises(OperationNotFound):
        await orders.get("cron_x")
    assert await orders.list() == []
    with pytest.raises(BadRequest, match="a:1, b:1"):
        await orders.place(order(host="c:1"), by="t")


PLAIN = ["llama3.2", "phi3:latest", "library/phi3", "user/model-x:7b_q4", "a"]
WITH_REGISTRY = ["hf.co/user/model:Q4", "localhost:5000/a/b"]
NO_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a b",
    "a\nb",
    "http://x/y",
    "a:b:c",
    "a/b/c/d",
    "/a",
    "a/",
    "a:",
    "*",
    "x" * 99,
]


@pytest.mark.parametrize("model", PLAIN)
def test_names_pass(model: str) -> None:
    check_model(model, "pull", ())
    check_model(model, "delete", ())


@pytest.mark.parametrize("model", WITH_REGISTRY)
def test_a_registry_is_called_only_if_the_allow_list_says_so(model: str) -> None:
    with pytest.raises(BadRequest):
        check_model(model, "pull", ())
    check_model(model, "pull", [model])
    check_model(model, "unload", ())  # one that is there already


@pytest.mark.parametrize("model", NO_NAMES)
@pytest.mark.parametrize("allowed", [(), ("*",)])
def test_what_is_no_name_is_refused(model: str, allowed: tuple[str, ...]) -> None:
    for op in ("pull", "load"):
        with pytest.raises(BadRequest) as refused:
            check_model(model, op, allowed)
        assert refused.value.param == "model"


@pytest.mark.req("S1-83")
def test_downloads_keep_to_the_allow_list() -> None:
    check_model("phi3:mini", "pull", ["phi3:*"])
    with pytest.raises(BadRequest, match="ALLOWED_MODELS"):
        check_model("mistral", "update", ["phi3:*"])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=40))
def test_a_download_never_counts_a_byte_twice(steps: list[tuple[int, int]]) -> None:
    download, came = Download(), 0
    highest: dict[int, int] = {}
    first: dict[int, int] = {}
    for layer, grown in steps:
        highest[layer] = highest.get(layer, 0) + grown
        first.setdefault(layer, highest[layer])
        came += download.add(
            PullProgress(status="pulling", digest=str(layer), total_bytes=5000, completed_bytes=highest[layer])
        )
        assert download.add(PullProgress(status="verifying")) == 0
    assert came == sum(highest.values()) - sum(first.values())
    assert download.completed_bytes == sum(highest.values())
    assert download.total_bytes == 5000 * len(highest)
