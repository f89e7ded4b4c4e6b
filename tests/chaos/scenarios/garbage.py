"""F12: the model server answers with garbage of each known kind. None of it is an answer, and none of it grows us."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.simulator.wire import SPLIT_SIGN
from shared.wire.codec import decode_error
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Form, Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.resources import MIB, MemoryLog, rss_mib
from tests.chaos.stack import EMBEDDING_MODEL, until
from tests.chaos.upstream import behave, misbehave

TOKENS = 40
STRUCK_AFTER = 10
HUGE_MIB = (100, 24)
"""Full and short. All of it is one line."""
GROWTH_MIB = 16.0
TEXT: tuple[Form, ...] = ("job", "stream")
VECTOR: tuple[Form, ...] = ("embedding_job",)
PROTOCOL = "backend_protocol_error"


@dataclass(slots=True, frozen=True)
class Case:
    """One kind of garbage. `code` is the error it must become; empty: the answer is whole, and must be right."""

    name: str
    fault: Mapping[str, Any]
    code: str
    forms: tuple[Form, ...] = TEXT
    adds: str = ""
    """Text that the fault puts into the answer."""


def garbage(variant: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "garbage", "variant": variant, "after_tokens": STRUCK_AFTER, **fields}


CASES = (
    Case("a line of JSON cut short", garbage("truncated_json"), PROTOCOL),
    Case("HTML under status 200", garbage("html"), PROTOCOL, (*TEXT, *VECTOR)),
    Case("NUL bytes", garbage("nul"), PROTOCOL, (*TEXT, *VECTOR)),
    Case("one endless line", garbage("huge_line"), PROTOCOL, (*TEXT, *VECTOR)),
    Case("an error line in a good stream", garbage("error_line"), "model_fault"),
    Case("no `done`", {"kind": "no_done", "after_tokens": STRUCK_AFTER}, "answer_incomplete"),
    Case("broken off", {"kind": "cut", "after_tokens": STRUCK_AFTER}, PROTOCOL),
    Case("a character cut in two", garbage("split_utf8"), "", adds=SPLIT_SIGN),
    Case("`done` twice", garbage("duplicate_done"), ""),
    Case("a vector too few", garbage("embedding_count"), PROTOCOL, VECTOR),
    Case("vectors of two lengths", garbage("embedding_dimension"), PROTOCOL, VECTOR),
    Case("a number that is none", garbage("embedding_nan"), PROTOCOL, VECTOR),
)


@dataclass(slots=True)
class Seen:
    """What became of the questions of all cases."""

    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    """Reported as success though it was none, or with another text."""
    misnamed: list[str] = field(default_factory=list)


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F12", "the model server answers with garbage")
    huge_mib = HUGE_MIB[campaign.short]
    # The circuits would keep the later cases from being asked at all.
    env = {"ENABLE_CIRCUIT_BREAKER": "false", "OLLAMA_MAX_RETRIES": "2"}
    seen = Seen()
    async with bench(campaign, "F12", worker_env=env) as b:
        stack = b.stack
        _, worker = await asyncio.gather(stack.start_gateway(), stack.start_worker())
        await _sound(b, "before")
        async with MemoryLog(stack.processes, period_s=0.05) as memory:
            base = rss_mib(worker.process)
            for case in CASES:
                campaign.say(case.name)
                fault = dict(case.fault)
                if fault.get("variant") == "huge_line":
                    fault["size_bytes"] = huge_mib * MIB
                await misbehave(stack, **fault)
                await asyncio.gather(*(_ask(b, case, form, seen) for form in case.forms))
                await behave(stack)
            grown = memory.peak(worker.process) - base
        await _sound(b, "after")
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url,
            may_end=frozenset({"succeeded", "dead_lettered"}),
        )  # fmt: skip
    report.expect("taken for an answer", seen.wrong)
    report.expect("not classified", seen.misnamed)
    outcome.none("garbage reported as success, or in its text", seen.asked, len(seen.wrong))
    outcome.none("errors of another class than expected", seen.asked, len(seen.misnamed))
    figure = f"{grown:.1f} MiB"
    outcome.add(f"worker's memory, lines of {huge_mib} MiB included", 1, figure, f"<= {GROWTH_MIB:g} MiB",
                grown <= GROWTH_MIB)  # fmt: skip
    outcome.add_report(report)
    return outcome


async def _sound(b: Bench, when: str) -> None:
    """Good answers of every form."""
    forms: tuple[Form, ...] = ("chat", "stream", "job", "embedding", "embedding_job")
    sent = [Sent(form=form, prompt=f"F12 question {when} about rivers [tokens={TOKENS}]") for form in forms]
    b.sent += sent
    await asyncio.gather(*(ask(b.stack.http, b.stack.gateways[0].url, one) for one in sent))


async def _ask(b: Bench, case: Case, form: Form, seen: Seen) -> None:
    stack, seen.asked = b.stack, seen.asked + 1
    one = Sent(form=form, prompt=f"F12 question {case.name} {form} [tokens={TOKENS}]")
    if form in VECTOR:
        await _ask_for_two(b, one)
    else:
        await ask(stack.http, stack.gateways[0].url, one)
    fields: dict[bytes, bytes] = {}

    async def ended() -> bool:
        fields.update(await stack.record(one.job_id))
        return fields[b"s"] in (b"succeeded", b"dead_lettered")

    await until(ended, 30.0, f"{case.name}, {form}")
    state, error = fields[b"s"].decode(), decode_error(fields.get(b"er", b""))
    label = f"{case.name}, {form}"
    code = "" if state == "succeeded" or error is None else error.code
    if state == "succeeded" and case.code:
        seen.wrong.append(f"{label}: succeeded")
    elif code != case.code:
        seen.misnamed.append(f"{label}: {code or state} instead of {case.code or 'success'}")
    if form == "stream":
        await _compare(b, case, one, label, seen)


async def _ask_for_two(b: Bench, one: Sent) -> None:
    """Of a single vector nobody can say that it has the wrong length."""
    request = {"model": EMBEDDING_MODEL, "input": [one.prompt, "llamas"]}
    body = {"type": "embedding", "request": request}
    async with b.stack.http.post(b.stack.gateways[0].url + "/v1/jobs", json=body) as response:
        one.job_id = (await response.json())["id"]


async def _compare(b: Bench, case: Case, one: Sent, label: str, seen: Seen) -> None:
    """A stream holds a beginning of the one right answer; all of it where that was whole."""
    right = await b.oracle.text(one.prompt)
    begun, added, rest = one.text.partition(case.adds) if case.adds else (one.text, "", "")
    is_right = right.startswith(begun) and added == case.adds and one.complete == (not case.code)
    # After the added character the simulator repeats one token.
    if not is_right or (one.complete and not (begun + rest if added else begun).endswith(right[len(begun) :])):
        seen.wrong.append(f"{label}: {one.text[-40:]!r}, complete: {one.complete}")
