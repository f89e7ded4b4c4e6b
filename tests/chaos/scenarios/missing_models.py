"""F27: a model is missing, is being pulled, is deleted while jobs run and wait; its stand-ins are missing, too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from shared.wire.codec import decode_error
from tests.chaos.campaign import Bench, Campaign, bench
from tests.chaos.checker import check
from tests.chaos.client import Sent, ask
from tests.chaos.outcome import Outcome
from tests.chaos.stack import CHAT_MODEL, EMBEDDING_MODEL, until

STAND_IN, ABSENT_STAND_IN = "mistral", "phi3"
CHAIN = (CHAT_MODEL, STAND_IN, ABSENT_STAND_IN)
PULLED = "qwen3"
PULL_S = 2.0
DELAY_S = 4.0
"""Jobs accepted while their model is there wait so long; meanwhile it goes."""
SERVED_WITHIN_S = 5.0


async def run(campaign: Campaign) -> Outcome:
    outcome = Outcome("F27", "models missing, being pulled, deleted under way, stand-ins missing too")
    each = campaign.size(40, 8)
    installed = ",".join((CHAT_MODEL, STAND_IN, EMBEDDING_MODEL))
    options = ("--models", installed, "--registry", PULLED, "--pull-seconds", str(PULL_S))
    env = {"FALLBACK_CHAINS": f"{CHAT_MODEL}={STAND_IN},{ABSENT_STAND_IN}"}
    async with bench(campaign, "F27", simulator_options=options, worker_env=env) as b:
        stack = b.stack
        await asyncio.gather(stack.start_gateway(), stack.start_workers(2))
        campaign.say("a model that nobody has")
        unknown = [await _status(b, PULLED) for _ in range(each)]
        pull = asyncio.create_task(_pull(b, PULLED))
        meanwhile = []
        while not pull.done():
            meanwhile.append(await _status(b, PULLED))
        campaign.say("it has been pulled")
        began = asyncio.get_running_loop().time()

        async def accepted() -> bool:
            return await _status(b, PULLED) == 202

        await until(accepted, 30.0, "the pulled model is served")
        served_s = asyncio.get_running_loop().time() - began

        campaign.say(f"{CHAT_MODEL} is deleted")
        running = [Sent(form="chat", prompt=f"F27 question {i} about rivers [tokens=200]") for i in range(each)]
        b.sent += running
        clients = [asyncio.create_task(ask(stack.http, stack.gateways[0].url, one)) for one in running]
        waiting = await _submit(b, each)

        async def all_run() -> bool:
            return len(await stack.calls()) >= len(running)

        await until(all_run, 15.0, "the questions are under way")
        await _delete(b, CHAT_MODEL)
        await asyncio.gather(*clients)
        stood_in = [await _ended(b, job_id) for job_id in waiting]

        campaign.say("and so is its stand-in")
        await _pull(b, CHAT_MODEL)
        await asyncio.sleep(0.1)
        lost_ids = await _submit(b, each)
        for model in (CHAT_MODEL, STAND_IN):
            await _delete(b, model)
        lost = [await _ended(b, job_id) for job_id in lost_ids]
        report = await check(
            stack, b.sent, b.sampler, b.oracle, gateway_url=stack.gateways[0].url,
            may_end=frozenset({"succeeded", "dead_lettered"}),
        )  # fmt: skip
        asked = await _models_asked(b)
        spent = sum(report.records[job_id].failures for job_id in (*waiting, *lost_ids))
    early = [status for status in meanwhile if status not in (202, 404)]
    outcome.none("unknown model: other answers than 404, nothing stored", each, sum(s != 404 for s in unknown))
    outcome.some("asked while it was being pulled: told 404", len(meanwhile), sum(s == 404 for s in meanwhile))
    outcome.none("asked while it was being pulled: other answers than 404, 202", len(meanwhile), len(early))
    outcome.within("pulled to accepted", 1, served_s, SERVED_WITHIN_S)
    outcome.none("answers cut by the deletion", each, sum(not one.complete for one in running))
    wrong = [end for end in stood_in if end != ("succeeded", STAND_IN)]
    outcome.none(f"deleted while waiting: not answered by {STAND_IN}", each, len(wrong))
    wrong = [end for end in lost if end != ("dead_lettered", "model_not_found")]
    outcome.none("stand-ins missing too: not ended as model_not_found", each, len(wrong))
    orders = {tuple(asked[job_id]) for job_id in lost_ids}
    outcome.add("stand-ins missing too: models asked, in order", each, " / ".join(">".join(order) for order in orders),
                ">".join(CHAIN), orders == {CHAIN})  # fmt: skip
    outcome.none("tries spent on models that are not there", 2 * each, spent)
    outcome.add_report(report)
    return outcome


def _chat(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def _status(b: Bench, model: str) -> int:
    """Submit a job for that model; the status of the answer."""
    body = {"type": "chat.completion", "request": _chat(model, "F27 are you there? [tokens=5]")}
    async with b.stack.http.post(b.stack.gateways[0].url + "/v1/jobs", json=body) as response:
        return response.status


async def _submit(b: Bench, count: int) -> list[str]:
    """Jobs that begin in `DELAY_S`."""
    ids = []
    for number in range(count):
        request = _chat(CHAT_MODEL, f"F27 later question {number} [tokens=20]")
        body = {"type": "chat.completion", "request": request, "delay_seconds": DELAY_S}
        async with b.stack.http.post(b.stack.gateways[0].url + "/v1/jobs", json=body) as response:
            ids.append((await response.json())["id"])
    return ids


async def _ended(b: Bench, job_id: str) -> tuple[str, str]:
    """(state, the model that answered or the error's code) once it has ended."""
    url = f"{b.stack.gateways[0].url}/v1/jobs/{job_id}"
    async with b.stack.http.get(url, params={"wait": "30"}) as response:
        body = await response.json()
    error = decode_error((await b.stack.record(job_id)).get(b"er", b""))
    if body["status"] == "succeeded":
        # The simulator says which model spoke.
        text: str = body["result"]["choices"][0]["message"]["content"]
        return "succeeded", text.removeprefix("Simulated answer from ").split(" ", 1)[0]
    return body["status"], error.code if error is not None else ""


async def _pull(b: Bench, model: str) -> None:
    body = {"model": model, "stream": False}
    async with b.stack.http.post(b.stack.simulator_url + "/api/pull", json=body) as response:
        response.raise_for_status()


async def _delete(b: Bench, model: str) -> None:
    async with b.stack.http.delete(b.stack.simulator_url + "/api/delete", json={"model": model}) as response:
        response.raise_for_status()


async def _models_asked(b: Bench) -> dict[str, Sequence[str]]:
    """The models of each job's calls, in order."""
    found: dict[str, list[str]] = {}
    for call in await b.stack.call_log():
        found.setdefault(call["request_id"] or "", []).append(call["model"].removesuffix(":latest"))
    return dict(found)
