"""Both clients against a real HTTP server that cuts connections and refuses calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

import pytest

from arriero import (
    ApiError,
    AsyncClient,
    Chunk,
    Client,
    Ended,
    Event,
    GatewayUnreachable,
    JobFailed,
    Queued,
    Restart,
    WaitTimeout,
)
from tests.arriero.fake_gateway import ANSWER, FakeGateway
from tests.house.redis_server import free_port

T = TypeVar("T")
REQUEST = {"model": "llama3.2", "messages": [{"role": "user", "content": "hello"}]}


class BothWays:
    """The blocking client, in a thread, behind the async client's methods: one test for both."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        return lambda *args, **kwargs: asyncio.to_thread(getattr(self._client, name), *args, **kwargs)

    async def stream(self, job_id: str) -> Iterable[Event]:
        return await asyncio.to_thread(lambda: list(self._client.stream(job_id)))


@pytest.fixture(params=["async", "blocking"])
async def client(request: pytest.FixtureRequest, gateway: FakeGateway) -> AsyncIterator[AsyncClient]:
    if request.param == "async":
        async with AsyncClient(gateway.url, "ark_key", timeout=5) as made:
            yield made
    else:
        with Client(gateway.url, "ark_key", timeout=5) as blocking:
            yield BothWays(blocking)  # type: ignore[misc]  # it has the methods, that is what the tests are for


async def all_events(client: AsyncClient, job_id: str) -> list[Event]:
    stream = client.stream(job_id)
    if isinstance(stream, Awaitable):
        return list(await stream)
    return [event async for event in stream]


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))


async def test_submit_wait_and_read_the_answer(client: AsyncClient, gateway: FakeGateway) -> None:
    job = await client.enqueue(
        "chat.completion", REQUEST, priority="low", deadline_seconds=60, metadata={"purpose": "test"}
    )
    assert (job.status, job.position, job.expected_wait_s) == ("queued", 3, 1.5)
    sent = gateway.jobs[job.id].body
    assert sent == {
        "type": "chat.completion",
        "request": REQUEST,
        "priority": "low",
        "deadline_seconds": 60,
        "metadata": {"purpose": "test"},
    }
    assert gateway.seen[0].headers["authorization"] == "Bearer ark_key"
    done = await client.wait(job.id, 5)
    assert done.succeeded
    assert done.text == "".join(ANSWER)
    assert (await client.get(job.id)).attempts[0]["worker"] == "w1"


async def test_a_submission_whose_answer_is_lost_makes_one_job(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.cut_replies = 2
    job = await client.enqueue("chat.completion", REQUEST)
    assert list(gateway.jobs) == [job.id]
    assert len(gateway.seen) == 3


async def test_own_idempotency_key(client: AsyncClient, gateway: FakeGateway) -> None:
    first = await client.enqueue("chat.completion", REQUEST, idempotency_key="order-7")
    second = await client.enqueue("chat.completion", REQUEST, idempotency_key="order-7")
    assert first.id == second.id
    assert list(gateway.by_key) == ["order-7"]


async def test_stream_goes_on_where_the_connection_broke(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.cut_after.extend([3, 0, 2])
    gateway.repeat_last = True
    job = await client.enqueue("chat.completion", REQUEST)
    events = await all_events(client, job.id)
    assert text_of(events) == "".join(ANSWER)
    assert gateway.resumed_from == ["", "1-2", "1-2", "1-3"]
    last = events[-1]
    assert isinstance(last, Ended)
    assert last.job.succeeded


async def test_position_is_told_while_the_job_waits(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.hold = True
    job = await client.enqueue("chat.completion", REQUEST)
    asyncio.get_running_loop().call_later(0.2, gateway.jobs[job.id].gate.set)
    events = await all_events(client, job.id)
    assert events[0] == Queued(3)
    assert text_of(events) == "".join(ANSWER)


async def test_restart_is_told(client: AsyncClient, gateway: FakeGateway) -> None:
    events = await all_events(client, gateway.add_restarted_job())
    restart = next(i for i, event in enumerate(events) if isinstance(event, Restart))
    assert text_of(events[restart:]) == "kept"


async def test_wait_gives_up_but_the_job_goes_on(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.hold = True
    job = await client.enqueue("chat.completion", REQUEST)
    with pytest.raises(WaitTimeout) as raised:
        await client.wait(job.id, 0.15)
    assert raised.value.job.status == "queued"
    assert gateway.jobs[job.id].status == "queued"


async def test_errors_carry_what_handlers_need(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.refuse.extend([(429, "queue_full", {"retry-after": "0.01"})] * 3)
    with pytest.raises(ApiError) as raised:
        await client.enqueue("chat.completion", REQUEST)
    error = raised.value
    assert (error.status, error.code, error.kind, error.param) == (429, "queue_full", "some_error", "model")
    assert error.retry_after_s == 0.01
    assert not gateway.refuse, "all three tries were used"


async def test_busy_is_tried_again_and_a_bad_request_is_not(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.refuse.append((503, "queue_unavailable", {"retry-after": "0.01"}))
    job = await client.enqueue("chat.completion", REQUEST)
    gateway.refuse.append((400, "invalid_request", {}))
    with pytest.raises(ApiError):
        await client.get(job.id)
    assert len(gateway.seen) == 3


async def test_unknown_job(client: AsyncClient) -> None:
    with pytest.raises(ApiError) as raised:
        await all_events(client, "job_nobody/../made")
    assert raised.value.status == 404


async def test_chat_and_embed(client: AsyncClient, gateway: FakeGateway) -> None:
    answer = await client.chat("hello", "llama3.2", system="Be brief.", temperature=0.5, priority="high")
    assert answer.text == "".join(ANSWER)
    sent = next(iter(gateway.jobs.values())).body
    assert sent["priority"] == "high"
    assert sent["request"]["temperature"] == 0.5
    assert [turn["role"] for turn in sent["request"]["messages"]] == ["system", "user"]
    vectors = await client.embed(["one", "three"], "nomic-embed-text")
    assert vectors.vectors == [[3.0, 0.5], [5.0, 0.5]]
    gateway.end_as = "dead_lettered"
    with pytest.raises(JobFailed) as raised:
        await client.chat("hello", "llama3.2")
    assert raised.value.code == "backend_fault"


async def test_list_and_cancel(client: AsyncClient, gateway: FakeGateway) -> None:
    gateway.hold = True
    made = [(await client.enqueue("chat.completion", REQUEST)).id for _ in range(3)]
    page = await client.list(limit=2)
    assert [job.id for job in page.jobs] == [made[2], made[1]]
    rest = await client.list(limit=2, cursor=page.next_cursor)
    assert [job.id for job in rest.jobs] == [made[0]]
    assert rest.next_cursor == ""
    assert (await client.cancel(made[0])).status == "cancelled"
    assert [job.id for job in (await client.list(status="cancelled")).jobs] == [made[0]]


async def test_chat_stream_pieces(gateway: FakeGateway) -> None:
    gateway.cut_after.append(2)
    async with AsyncClient(gateway.url) as client:
        pieces = [piece async for piece in client.chat_stream("hello", "llama3.2")]
    assert text_of(p for p in pieces if isinstance(p, Chunk)) == "".join(ANSWER)
    with Client(gateway.url) as blocking:
        pieces = await asyncio.to_thread(lambda: list(blocking.chat_stream("hello", "llama3.2")))
    assert text_of(p for p in pieces if isinstance(p, Chunk)) == "".join(ANSWER)


async def test_no_gateway() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, max_retries=0) as client, pytest.raises(GatewayUnreachable):
        client.get("job_1")
    async with AsyncClient(url, reconnect_for=0.2) as async_client:
        with pytest.raises(GatewayUnreachable):
            _ = [event async for event in async_client.stream("job_1")]


def test_the_client_needs_no_server_package() -> None:
    """What a service imports with `import arriero` is httpx, and nothing of Redis or the servers."""
    program = (
        "import sys, arriero; servers = {'shared', 'redis', 'arq', 'aiohttp', 'gateway', 'worker'}; "
        "print(sorted(servers & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
