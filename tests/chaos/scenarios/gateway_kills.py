"""F5: a gateway is killed before it answered, after it answered, and in the middle of streams; clients go to another.

Every kill hits four clients at once: (a) one whose submission is under way, (b) one that was told its job is accepted,
(c) one that reads a job's events, (d) one that reads an OpenAI stream it asked for with an Idempotency-Key.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask, frames, job
from tests.chaos.outcome import Outcome
from tests.chaos.stack import Gateway

WORKERS = 2
STREAMED_TOKENS = 200
"""One second of stream."""
SEEN_CHUNKS = 5
ANSWER_WITHIN_S = 20.0


@dataclass(slots=True)
class Tally:
    """What went wrong, by case; and how often a kill came between a job's acceptance and its answer."""

    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    unanswered: int = 0


Frame = tuple[str, str, str]
"""Id, name and data of a server-sent event."""


class EventReader:
    """Follows a job's events, as far as they come."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, job_id: str, after: str = "") -> None:
        self.seen: list[Frame] = []
        self.has_chunks = asyncio.Event()
        self._task = asyncio.create_task(self._read(http, f"{base_url}/v1/jobs/{job_id}/events", after))

    async def _read(self, http: aiohttp.ClientSession, url: str, after: str) -> None:
        try:
            async with http.get(url, headers={"Last-Event-ID": after} if after else {}) as response:
                async for event in frames(response):
                    self.seen.append((event.get("id", ""), event["event"], event["data"]))
                    if len(self.seen) > SEEN_CHUNKS:
                        self.has_chunks.set()
        except aiohttp.ClientError:
            return
        finally:
            self.has_chunks.set()

    async def end(self) -> list[Frame]:
        """All that came, once nothing more comes."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await self._task
        return self.seen

    @property
    def last_id(self) -> str:
        return next((event_id for event_id, *_ in reversed(self.seen) if event_id), "")


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F5", "kill -9 of a gateway: before its reply, after it, mid-stream")
    kills = campaign.size(20, 2)
    tally = Tally()
    async with bench(campaign, "F5") as b:
        stack = b.stack
        survivor, victim, *_ = await asyncio.gather(
            stack.start_gateway(), stack.start_gateway(), stack.start_workers(WORKERS)
        )
        for number in range(kills):
            campaign.say(f"gateway kill {number + 1} of {kills}")
            last = number == kills - 1
            following = None if last else asyncio.create_task(stack.start_gateway())
            await _round(b, number, victim, survivor, tally)
            if following is not None:
                victim = await following
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=survivor.url)
    report.expect("I4 run more than once", [i for i, calls in report.calls.items() if len(calls) > 1])
    for what, faults in (
        ("(a) before the reply: retry by key is not one job", tally.before),
        ("(b) after the reply: not readable elsewhere", tally.after),
        ("(c) events: resumed bytes differ from the uncut run's", tally.events),
        ("(d) OpenAI stream: retry by key differs", tally.streams),
    ):
        report.expect(what, faults)
        outcome.none(what, kills, len(faults))
    outcome.tell("(a) submissions the kill left unanswered", kills, tally.unanswered)
    outcome.add_report(report)
    return outcome


async def _round(b: Bench, number: int, victim: Gateway, survivor: Gateway, tally: Tally) -> None:
    http = b.stack.http

    def question(case: str, tokens: int) -> str:
        return f"F5 question {number} {case} about rivers [tokens={tokens}]"

    followed = await ask(http, victim.url, Sent(form="job", prompt=question("c", STREAMED_TOKENS)))
    cut = EventReader(http, victim.url, followed.job_id)
    stream_key = {"Idempotency-Key": f"F5-stream-{number}"}
    streamed = Sent(form="stream", prompt=question("d", STREAMED_TOKENS))
    stream = asyncio.create_task(ask(http, victim.url, streamed, stream_key))
    told = await ask(http, victim.url, Sent(form="job", prompt=question("b", 40)))
    b.sent += [followed, told]
    await asyncio.wait_for(cut.has_chunks.wait(), ANSWER_WITHIN_S)

    submit_key = {"Idempotency-Key": f"F5-submit-{number}"}
    submitted = Sent(form="job", prompt=question("a", 40))
    submission = asyncio.create_task(ask(http, victim.url, submitted, submit_key))
    # From "not even sent" to "probably answered": a submission takes a few milliseconds.
    await asyncio.sleep(b.draw.uniform(0.0, 0.012))
    victim.process.kill()
    await asyncio.gather(submission, stream)
    tally.unanswered += not submitted.accepted
    await _compare(b, survivor, tally, submitted, submit_key)
    await _compare_streams(b, survivor, tally, streamed, stream_key)

    body = await job(http, survivor.url, told.job_id, ANSWER_WITHIN_S)
    if body.get("status") != "succeeded":
        tally.after.append(f"{told.job_id} is {body.get('status')}")
    before = await cut.end()
    resumed = await EventReader(http, survivor.url, followed.job_id, cut.last_id).end()
    uncut = await EventReader(http, survivor.url, followed.job_id).end()
    if before + resumed != uncut or not before or uncut[-1][1] != "ended":
        tally.events.append(f"{followed.job_id}: {len(before)} + {len(resumed)} events, {len(uncut)} uncut")


async def _compare(b: Bench, survivor: Gateway, tally: Tally, first: Sent, key: dict[str, str]) -> None:
    """Submit again with the same key, twice, elsewhere: it must be the one job."""
    again = [await ask(b.stack.http, survivor.url, Sent(form="job", prompt=first.prompt), key) for _ in range(2)]
    b.sent += [one for one in (first, *again) if one.accepted]
    ids = {one.job_id for one in (first, *again) if one.accepted}
    if len(ids) != 1 or not all(one.accepted for one in again):
        tally.before.append(f"{first.prompt}: ids {sorted(ids)}, statuses {[one.status for one in again]}")


async def _compare_streams(b: Bench, survivor: Gateway, tally: Tally, first: Sent, key: dict[str, str]) -> None:
    """Ask for the stream again with the same key: the same job, from its beginning to its end."""
    again = await ask(b.stack.http, survivor.url, Sent(form="stream", prompt=first.prompt), key)
    b.sent.append(again)
    if not again.complete or again.job_id != first.job_id or not again.text.startswith(first.text):
        tally.streams.append(f"{first.job_id} then {again.job_id}: {again.status} {again.error}")
