"""F14: one Idempotency-Key, many submissions at the same moment, on two gateways; again after one was killed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Form, Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import Gateway

AT_ONCE = 200
WORKERS = 2
FORMS: tuple[Form, ...] = ("job", "chat", "stream", "embedding_job")
ACCEPTED, OTHER_BODY = 202, 422


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F14", f"{AT_ONCE} submissions with one Idempotency-Key, on two gateways")
    rounds = campaign.size(8, 2)
    split: list[str] = []
    others: list[Sent] = []
    unanswered = 0
    async with bench(campaign, "F14") as b:
        stack = b.stack
        *pair, _ = await asyncio.gather(stack.start_gateway(), stack.start_gateway(), stack.start_workers(WORKERS))
        for number in range(rounds):
            campaign.say(f"key {number + 1} of {rounds}")
            form = FORMS[number % len(FORMS)]
            key = {"Idempotency-Key": f"F14-{number}"}
            prompt = f"F14 question {number} about rivers [tokens={b.draw.randint(20, 80)}]"
            same, requests = _submit(b, pair, form, prompt, key)
            if number >= rounds // 2:
                # From "hardly sent" to "most of them answered".
                await asyncio.sleep(b.draw.uniform(0.0, 0.3))
                pair[1].process.kill()
                await asyncio.gather(*requests)
                unanswered += sum(not one.accepted for one in same)
                pair[1] = await stack.start_gateway()
                same = [one for one in same if one.complete or one.status == ACCEPTED]
                again, requests = _submit(b, pair, form, prompt, key)
                same += again
            await asyncio.gather(*requests)
            split += _faults(same)
            b.sent += same
            others += await _other_body(b, pair, form, number, key)
        report = await check(stack, b.sent, b.sampler, b.oracle, gateway_url=pair[0].url)
    twice = [i for i, calls in report.calls.items() if len(calls) > 1]
    report.expect("answers that are not one job's", split)
    report.expect("I4 run more than once", twice)
    wrong = [f"{one.status} {one.error}" for one in others if one.status != OTHER_BODY]
    report.expect("same key, other body", wrong)
    outcome.add("jobs made", rounds * AT_ONCE, len(report.records), str(rounds), len(report.records) == rounds)
    outcome.none("executed more than once", rounds, len(twice))
    outcome.none("submissions with another id or without an answer", len(b.sent), len(split))
    outcome.none(f"same key, other body: not {OTHER_BODY}", len(others), len(wrong))
    outcome.some("submissions that a kill left unanswered", rounds - rounds // 2, unanswered)
    outcome.add_report(report)
    return outcome


def _faults(same: Sequence[Sent]) -> list[str]:
    """What is not one accepted job with one answer."""
    ids = {one.job_id for one in same if one.accepted}
    faults = [f"{one.form} {one.status} {one.error}" for one in same if not one.accepted or one.error]
    return faults + ([f"ids {sorted(ids)}"] if len(ids) != 1 else [])


def _submit(
    b: Bench, pair: Sequence[Gateway], form: Form, prompt: str, key: dict[str, str]
) -> tuple[list[Sent], list[asyncio.Task[Sent]]]:
    """The same request many times, half of them to each gateway, under way."""
    same = [Sent(form=form, prompt=prompt) for _ in range(AT_ONCE)]
    http = b.stack.http
    return same, [asyncio.create_task(ask(http, pair[i % 2].url, one, key)) for i, one in enumerate(same)]


async def _other_body(b: Bench, pair: Sequence[Gateway], form: Form, number: int, key: dict[str, str]) -> list[Sent]:
    """The same key for another question, once on each gateway."""
    prompt = f"F14 another question {number}"
    return list(await asyncio.gather(*(ask(b.stack.http, g.url, Sent(form=form, prompt=prompt), key) for g in pair)))
