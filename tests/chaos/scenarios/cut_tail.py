"""F8: Redis is killed and the end of its append-only file is lost, 1 to 200 bytes of it.

Redis drops the unfinished transaction at the end of what is left. So it is known which jobs the loss is about: those
may be unknown, or run again. All others must not notice.

Afterwards the file is rewritten, as docs/guarantees.md tells operators: many releases of Redis leave the beginning of
that transaction in the file, and at the next start it swallows the first write that came after it.
"""

from __future__ import annotations

import asyncio
import os
import re

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.outcome import Outcome
from tests.chaos.stack import until

WORKERS = 2
PER_SECOND = 20.0
CUT_BYTES = (1, 200)
UP_S = (1.5, 3.0)
DOWN_S = 0.3
_MULTI, _EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
_JOB_ID = re.compile(rb"job_[0-9a-zA-Z]+")
_TRUNCATED = re.compile(rb"Truncating the AOF \S+ at offset (\d+)")


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F8", "the append-only file loses its tail")
    rounds = campaign.size(10, 2)
    dropped: list[int] = []
    forgotten: set[str] = set()
    async with bench(campaign, "F8") as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(WORKERS))
        async with b.load(PER_SECOND):
            for number in range(rounds):
                await asyncio.sleep(b.draw.uniform(*UP_S))
                campaign.say(f"cut {number + 1} of {rounds}")
                lost = await _cut(b)
                dropped.append(len(lost))
                forgotten |= {found.decode() for found in _JOB_ID.findall(lost)}
            await asyncio.sleep(UP_S[0])
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url, forgotten=forgotten)
    unknown = {one.job_id for one in b.sent if one.accepted and one.job_id} - set(report.records)
    rerun = sum(len(report.calls.get(job_id, [])) > 1 for job_id in forgotten)
    outcome.add("Redis started from what was left", rounds, len(dropped), str(rounds), len(dropped) == rounds)
    outcome.some("bytes lost, least per round", rounds, min(dropped))
    outcome.some("jobs the lost bytes were about", rounds, len(forgotten))
    outcome.tell("of those unknown afterwards, though accepted", len(forgotten), len(unknown & forgotten))
    outcome.tell("of those run again", len(forgotten), rerun)
    outcome.add_report(report)
    return outcome


async def _cut(b: Bench) -> bytes:
    """Kill Redis, cut its file, start it. What is lost: the bytes cut off and those that Redis then dropped."""
    stack = b.stack
    stack.kill_redis()
    path = stack.append_only_file
    whole = path.read_bytes()
    left = len(whole) - b.draw.randint(*CUT_BYTES)
    os.truncate(path, left)
    await asyncio.sleep(DOWN_S)
    await stack.start_redis()
    await stack.redis.execute_command("BGREWRITEAOF")  # type: ignore[no-untyped-call]  # redis-py 5
    await until(lambda: _rewritten(b), 20.0, "the file is rewritten")
    assert stack.redis_process is not None
    dropped = _TRUNCATED.search(stack.redis_process.log.read_bytes())
    end = int(dropped[1]) if dropped else left
    begun = whole.rfind(_MULTI, 0, end)
    return whole[begun if begun > whole.rfind(_EXEC, 0, end) else end :]


async def _rewritten(b: Bench) -> bool:
    state = await b.stack.redis.info("persistence")
    return not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])
