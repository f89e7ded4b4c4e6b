"""What clients are told while they wait, against what then happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.app import Gateway
from tests.conftest import WaitUntil
from tests.gateway.conftest import settings_for
from tests.integration.stack import SLOTS, Stack, chat_body, ended, submit

JOBS = 40
TOKENS_PER_S = 50


@asynccontextmanager
async def watched_gateway(stack: Stack) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    """A gateway in this process, so that a test knows what it has learned."""
    gateway = Gateway(settings_for(stack.redis.url, ollama_base_urls=[stack.simulator.url]))
    await gateway.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=60, trust_env=False) as http:
            yield gateway, http
    finally:
        await gateway.stop()


def jobs_of(tokens: int, count: int) -> dict[str, object]:
    request = chat_body(f"Tell me of the llamas [tokens={tokens}]")
    return {"jobs": [{"type": "chat.completion", "request": request}] * count}


@pytest.mark.req("S1-58", "S1-34")
@pytest.mark.parametrize(
    "slots_of_a_model",
    [
        pytest.param("0", id="workers are the limit"),
        pytest.param("2", id="the host is the limit", marks=pytest.mark.slow),
    ],
)
async def test_the_expected_wait_is_within_a_factor_of_two(slots_of_a_model: str, wait_until: WaitUntil) -> None:
    fast = ("--first-token-seconds", "0", "--tokens-per-second", str(TOKENS_PER_S))
    with Stack(simulator=fast) as stack:
        stack.worker(OLLAMA_NUM_PARALLEL=slots_of_a_model, RESERVED_HIGH_SLOTS="0")
        stack.wait()
        async with watched_gateway(stack) as (gateway, http):
            await http.post("/v1/jobs:batch", json=jobs_of(20, 3 * SLOTS))
            services = gateway.services
            assert services is not None
            await wait_until(lambda: services.estimates.current.known, 30, description="calls are learned from")
            await wait_until(lambda: _is_idle(http), 30, description="the queue is empty")

            answer = await http.post("/v1/jobs:batch", json=jobs_of(20, JOBS))
            told = {job["id"]: job["queue"]["expected_wait_seconds"] for job in answer.json()["data"]}
            for job_id in list(told)[JOBS // 2 :: 5]:
                job = (await http.get(f"/v1/jobs/{job_id}", params={"wait": 60})).json()
                waited_s = job["started_at"] - job["created_at"]
                assert 0.5 <= told[job_id] / waited_s <= 2, (told[job_id], waited_s)


async def _is_idle(http: httpx.AsyncClient) -> bool:
    jobs = (await http.get("/v1/jobs", params={"limit": 100})).json()["data"]
    return all(job["finished_at"] for job in jobs)


@pytest.mark.req("S1-30", "S4-28")
def test_whoever_waits_is_told_that_the_model_is_loaded() -> None:
    with Stack(simulator=("--load-seconds", "6")) as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        loading = f": running reason=loading_model model=llama3.2 host={stack.simulator.url.removeprefix('http://')}"
        with stack.http() as client:
            job_id = submit(client, chat_body("one [tokens=5]"))
            with client.stream("POST", "/v1/chat/completions", json=chat_body("two", stream=True)) as response:
                assert response.status_code == 200
                lines = response.iter_lines()
                assert next(line for line in lines if line.startswith("data:") or "loading_model" in line) == loading
                assert client.get(f"/v1/jobs/{job_id}").json()["queue"]["reason"] == "loading_model"
                with client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
                    followed = list(events.iter_lines())
                assert loading in followed and "event: ended" in followed
                answer = "\n".join(lines)
            assert answer.rstrip().endswith("data: [DONE]")
            assert "loading_model" not in answer[answer.index("data:") :]
            job = ended(client, job_id)
            assert job["status"] == "succeeded"
            assert job["queue"] == {"position": None, "expected_wait_seconds": None, "reason": None}
