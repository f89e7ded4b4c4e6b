"""Deliveries: the form each receiver gets, tries and pauses, and that one monitor of several tells."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from tenacity import wait_none

from monitor.alerts import Alert, AlertState, Place, Severity
from monitor.deliver.channels import Alertmanager, Channel, Slack, Webhook
from monitor.deliver.ledger import Ledger
from monitor.deliver.message import Message
from monitor.deliver.post import TRIES, DeliveryFailed, Post, new_session
from monitor.deliver.teller import AGAIN_S, MOST_WAITING, Look, Teller
from shared import egress
from shared.queue.client import QueueClient
from shared.settings import BaseServiceSettings
from tests.conftest import WaitUntil
from tests.house.redis_server import RedisServer, free_port
from tests.monitor.receiver import Receiver
from tests.monitor.snapshots import rule

KEY = b"0123456789abcdef01234567"
FIRED_AT = 1_700_000_060.0
FLEET_RULE = rule(name="queue_backlog", place=Place.FLEET, severity=Severity.CRITICAL, summary="{value} <jobs> & more")
FIRING = Alert(rule=FLEET_RULE, about="", state=AlertState.FIRING, value=900.0, since=FIRED_AT - 60, fired_at=FIRED_AT)
OVER = replace(FIRING, state=AlertState.RESOLVED, value=3.0, resolved_at=FIRED_AT + 60)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def post(session: aiohttp.ClientSession) -> Post:
    return Post(session, 2.0, pauses=wait_none())


async def queue_client(url: str) -> QueueClient:
    return await QueueClient.connect(BaseServiceSettings.model_validate({"redis_url": url}))


def counter() -> Counter:
    return Counter("deliveries", "Alert messages.", ["channel", "outcome"], registry=CollectorRegistry())


def counted(deliveries: Counter) -> dict[tuple[str, str], float]:
    samples = next(iter(deliveries.collect())).samples
    return {
        (sample.labels["channel"], sample.labels["outcome"]): sample.value
        for sample in samples
        if sample.name.endswith("_total") and sample.value
    }


@pytest.mark.req("S1-61", "S1-64")
async def test_a_webhook_is_signed_so_that_its_receiver_can_check_it(post: Post) -> None:
    """The check is the one that Standard Webhooks describes, by hand."""
    message = Message(alert=FIRING, monitor="box")
    async with Receiver(503) as receiver:
        await Webhook(post, receiver.url + "/hook", KEY).send([message])
    first, second = receiver.posted
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == message.id
    sent = second
    assert abs(int(sent.headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{sent.headers['webhook-id']}.{sent.headers['webhook-timestamp']}.{sent.body.decode()}"
    digest = hmac.new(KEY, signed.encode(), hashlib.sha256).digest()
    assert sent.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.json == {
        "type": "alert.firing",
        "timestamp": "2023-11-14T22:14:20.000Z",
        "data": {
            "alert": "queue_backlog",
            "about": "",
            "state": "firing",
            "severity": "critical",
            "place": "fleet",
            "summary": "900 <jobs> & more",
            "metric": "m",
            "value": 900.0,
            "threshold": 80.0,
            "since": "2023-11-14T22:13:20.000Z",
            "fired_at": "2023-11-14T22:14:20.000Z",
            "resolved_at": None,
            "monitor": "box",
            "host": "",
        },
    }


async def test_slack(post: Post) -> None:
    on_host = replace(FIRING, rule=replace(FLEET_RULE, place=Place.HOST))
    async with Receiver() as receiver:
        slack = Slack(post, receiver.url + "/services/T/B/X")
        await slack.send([Message(alert=on_host, monitor="box"), Message(alert=OVER, monitor="box")])
    assert [posted.json["text"] for posted in receiver.posted] == [
        ":rotating_light: *critical* 900 &lt;jobs&gt; &amp; more on box (`queue_backlog`)",
        ":white_check_mark: *resolved* 3 &lt;jobs&gt; &amp; more (`queue_backlog`)",
    ]


async def test_alertmanager(post: Post) -> None:
    before = time.time()
    async with Receiver() as receiver:
        manager = Alertmanager(post, receiver.url + "/")
        await manager.send([Message(alert=FIRING, monitor="box"), Message(alert=OVER, monitor="box")])
    (posted,) = receiver.posted
    assert posted.path == "/api/v2/alerts"
    firing, over = posted.json
    assert firing["labels"] == {"alertname": "arriero_queue_backlog", "severity": "critical", "service": "arriero"}
    assert firing["annotations"]["summary"] == "900 <jobs> & more"
    assert firing["startsAt"] == over["startsAt"] == "2023-11-14T22:14:20.000Z"
    assert over["endsAt"] == "2023-11-14T22:15:20.000Z"
    assert firing["endsAt"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before + 200))


@pytest.mark.parametrize(
    ("answers", "requests"),
    [((500, 429, 408), 4), ((500,) * 20, TRIES), ((400,), 1), ((302,), 1), ((404,), 1)],
)
async def test_what_is_tried_again(answers: tuple[int, ...], requests: int, post: Post) -> None:
    async with Receiver(*answers) as receiver:
        try:
            await post.send(receiver.url, b"{}")
        except DeliveryFailed as error:
            assert str(error) == f"status {answers[0]}"
            assert receiver.url not in str(error)
        else:
            assert requests == len(answers) + 1
    assert len(receiver.posted) == requests


async def test_nobody_there_and_no_answer(session: aiohttp.ClientSession) -> None:
    with pytest.raises(DeliveryFailed, match="ClientConnectorError"):
        await Post(session, 2.0, pauses=wait_none()).send(f"http://127.0.0.1:{free_port()}/", b"{}")
    async with Receiver(*[0] * TRIES) as receiver:
        with pytest.raises(DeliveryFailed, match=r"no answer within 0\.05 s"):
            await Post(session, 0.05, pauses=wait_none()).send(receiver.url, b"{}")
        assert len(receiver.posted) == TRIES


async def test_of_two_monitors_one_tells(redis_url: str, post: Post, wait_until: WaitUntil) -> None:
    client = await queue_client(redis_url)
    async with Receiver() as receiver:
        deliveries = counter()
        tellers = [
            Teller(
                name,
                [Webhook(post, receiver.url, KEY), Alertmanager(post, receiver.url)],
                Ledger(client.redis, client.keys, name),
                deliveries,
            )
            for name in ("a", "b")
        ]

        async def all_told(times: int) -> None:
            def done() -> bool:
                seen = counted(deliveries)
                told = seen.get(("webhook", "delivered"), 0) + seen.get(("webhook", "left_to_another"), 0)
                return told == 2 * times and seen.get(("alertmanager", "delivered"), 0) == 2 * times

            await wait_until(done, description=f"both told {times} times")

        for teller in tellers:
            teller.start()
            teller.start()
            teller.tell(Look(FIRED_AT, [FIRING], [FIRING]))
        await all_told(1)
        for teller in tellers:
            teller.tell(Look(FIRED_AT + 60, [OVER], []))
        await all_told(2)
        for teller in tellers:
            await teller.stop()
            await teller.stop()
    await client.aclose()
    hooks = [posted.json["type"] for posted in receiver.posted if "webhook-id" in posted.headers]
    assert hooks == ["alert.firing", "alert.resolved"]
    # Alertmanager hears from both, and knows that it is one alert.
    told = [posted.json for posted in receiver.posted if "webhook-id" not in posted.headers]
    assert len(told) == 4 and all(alerts[0]["labels"] == told[0][0]["labels"] for alerts in told)


async def test_the_ledger(redis_url: str) -> None:
    client = await queue_client(redis_url)
    a, b = (Ledger(client.redis, client.keys, name) for name in "ab")
    assert [await a.may_tell("x"), await b.may_tell("x"), await b.may_tell("y")] == [True, False, True]
    # Whoever is left when the other is gone tells of the end.
    assert [await b.may_tell_end("x"), await a.may_tell_end("x")] == [True, False]
    await client.redis.pexpire(client.keys.alert("y"), 1000)
    await a.renew(["y", "never told"])
    assert await client.redis.pttl(client.keys.alert("y")) > 800_000
    assert await b.may_tell_end("y")
    await client.aclose()


async def test_without_redis_each_tells_for_itself() -> None:
    with RedisServer() as server:
        client = await queue_client(server.url)
        a, b = (Ledger(client.redis, client.keys, name) for name in "ab")
        assert await a.may_tell("before")
        server.kill()
        assert [await a.may_tell("x"), await b.may_tell("x")] == [True, True]
        await a.renew(["x"])
        server.start()
        # What was told without Redis ends the same way; what it forgot is lost.
        assert [await a.may_tell_end("x"), await b.may_tell_end("x")] == [True, True]
        assert not await a.may_tell_end("before")
        await client.aclose()


class Slow:
    """A channel that takes nothing until it may."""

    name, told_once = "slow", False

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.got: list[int] = []

    async def send(self, messages: Sequence[Message]) -> None:
        await self.may.wait()
        self.got.append(len(messages))


async def test_a_channel_that_hangs_holds_up_nobody(redis_url: str, post: Post, wait_until: WaitUntil) -> None:
    client = await queue_client(redis_url)
    slow: Channel = Slow()
    deliveries = counter()
    async with Receiver() as receiver:
        channels = [slow, Webhook(post, receiver.url, KEY)]
        teller = Teller("a", channels, Ledger(client.redis, client.keys, "a"), deliveries)
        teller.start()
        rounds = MOST_WAITING + 20
        for index in range(rounds):
            teller.tell(Look(float(index), [FIRING, OVER], []))
            told = 2 * (index + 1)
            # One round at a time: told all at once, the other channel's own queue would run over as well.
            await wait_until(lambda told=told: len(receiver.posted) == told, description="the other channel has it")
        dropped = counted(deliveries)["slow", "dropped"]
        assert 0 < dropped <= 20
        await teller.stop()
        assert ("slow", "delivered") not in counted(deliveries)
    await client.aclose()


async def test_what_still_fires_is_told_again_where_that_is_wanted(redis_url: str) -> None:
    client = await queue_client(redis_url)
    slow = Slow()
    slow.may.set()
    teller = Teller("a", [slow], Ledger(client.redis, client.keys, "a"), counter())
    teller.start()
    looks = [(0.0, [FIRING]), (5.0, []), (AGAIN_S - 1, []), (AGAIN_S, []), (AGAIN_S + 5, [])]
    for at, changed in looks:
        teller.tell(Look(1000 + at, changed, [FIRING]))
        await teller.idle()
    assert slow.got == [1, 1]
    teller.tell(Look(2000.0, [], []))
    await teller.stop()
    assert slow.got == [1, 1]
    await client.redis.delete(client.keys.alert("queue_backlog"))
    await client.aclose()


async def test_a_failed_delivery_is_counted_and_the_next_goes_out(redis_url: str, post: Post) -> None:
    client = await queue_client(redis_url)
    deliveries = counter()
    async with Receiver(400) as receiver:
        ledger = Ledger(client.redis, client.keys, "a")
        teller = Teller("a", [Slack(post, receiver.url)], ledger, deliveries)
        teller.start()
        teller.tell(Look(FIRED_AT, [FIRING, OVER], []))
        await teller.stop()
    assert counted(deliveries) == {("slack", "failed"): 1, ("slack", "delivered"): 1}
    await client.aclose()


class Odd(Slow):
    """A channel with a mistake in it, which shows the first time."""

    name = "odd"

    async def send(self, messages: Sequence[Message]) -> None:
        if not self.got:
            self.got.append(0)
            raise ValueError("nobody thought of this")
        await super().send(messages)


async def test_a_channel_with_a_mistake_goes_on(redis_url: str) -> None:
    client = await queue_client(redis_url)
    odd, deliveries = Odd(), counter()
    odd.may.set()
    teller = Teller("a", [odd], Ledger(client.redis, client.keys, "a"), deliveries)
    teller.start()
    for _ in range(2):
        teller.tell(Look(FIRED_AT, [FIRING, OVER], []))
        await teller.idle()
    await teller.stop()
    assert counted(deliveries) == {("odd", "failed"): 1, ("odd", "delivered"): 1}
    await client.aclose()


@pytest.mark.req("S3-22")
async def test_in_airgap_mode_no_receiver_outside_is_connected_to() -> None:
    """Whatever name led there; and it is not tried again."""
    egress.keep_inside()
    try:
        async with Receiver() as receiver, new_session() as session:
            near = Post(session, 2.0, pauses=wait_none())
            with pytest.raises(DeliveryFailed, match="airgap mode") as failed:
                await near.send("http://203.0.113.7:9/hook", b"{}")
            await near.send(receiver.url, b"{}")
    finally:
        egress.allow_all()
    assert not failed.value.again
    assert len(receiver.posted) == 1
