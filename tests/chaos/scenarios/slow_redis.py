"""F25: the way to Redis is slow, gives one byte at a time, or breaks now and then. Slow, never wrong."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.chaos.campaign import Campaign, bench
from tests.chaos.checker import Report, check
from tests.chaos.outcome import Outcome, percentile
from tests.chaos.proxy import CLEAN, Toxics

WORKERS = 2
PHASE_S = (7.5, 1.5)
"""Full and short."""
MOST = 64
"""Connections of one process; a pool may have so many."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One ailment, for every worker and the gateway."""

    what: str
    up: Toxics
    down: Toxics
    per_second: float = 10.0


@dataclass(frozen=True, slots=True)
class Instant:
    """On the monotonic clock, which times requests, and on the other, which times runs. Seconds."""

    monotonic: float
    unix: float


NEVER = Instant(float("inf"), float("inf"))
PHASES = (
    Phase("healthy", CLEAN, CLEAN),
    Phase("50 +- 50 ms", CLEAN, Toxics(latency_s=0.05, jitter_s=0.05)),
    Phase("200 ms", CLEAN, Toxics(latency_s=0.2)),
    # Few jobs: the proxy itself is what this takes the strength of.
    Phase("one byte at a time", Toxics(slice_bytes=1), Toxics(slice_bytes=1), per_second=3.0),
    Phase("1 % resets", Toxics(reset_share=0.005), Toxics(reset_share=0.005)),
)


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F25", "the way to Redis is slow or breaks")
    began: list[Instant] = []
    async with bench(campaign, "F25") as b:
        stack = b.stack
        proxies = [await stack.proxy_redis() for _ in range(1 + WORKERS)]
        (_, through), *to_workers = proxies
        gateway, _ = await asyncio.gather(
            stack.start_gateway(**through),
            asyncio.gather(*(stack.start_worker(**setting) for _, setting in to_workers)),
        )
        async with b.load(PHASES[0].per_second) as load:
            for phase in PHASES:
                campaign.say(phase.what)
                began.append(Instant(time.monotonic(), time.time()))
                load.per_second = phase.per_second
                for proxy, _ in proxies:
                    proxy.poison(up=phase.up, down=phase.down)
                await asyncio.sleep(PHASE_S[campaign.short])
            broken = sum(proxy.broken for proxy, _ in proxies)
            for proxy, _ in proxies:
                proxy.heal()
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=gateway.url)
        most_open = max(len(proxy.connections) for proxy, _ in proxies)
    for phase, start, end in zip(PHASES, began, [*began[1:], NEVER], strict=True):
        sent = [one for one in b.sent if start.monotonic <= one.began < end.monotonic]
        chats = [one.seconds for one in sent if one.form == "chat" and one.complete]
        outcome.tell(f"{phase.what}: time of a chat, p50", len(chats), f"{percentile(chats, 0.5):.2f} s")
        outcome.none(f"{phase.what}: requests not accepted", len(sent), sum(not one.accepted for one in sent))
        outcome.none(f"{phase.what}: leases lost", len(sent), _leases_lost(report, start, end))
    outcome.some("connections that were reset", len(sent), broken)
    outcome.add("open connections of one process, most", len(proxies), most_open, f"<= {MOST}", most_open <= MOST)
    outcome.add_report(report)
    return outcome


def _leases_lost(report: Report, start: Instant, end: Instant) -> int:
    """Of the runs that began between these instants, those whose lease ended."""
    return sum(
        found == "crashed" and start.unix <= at_ms / 1000 < end.unix
        for record in report.records.values()
        for _, at_ms, found in record.attempts
    )
