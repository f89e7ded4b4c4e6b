"""Jobs that arrive at random, for several models: sends them, waits until all are done, and says how long they waited.

    python -m tests.bench.arrivals --url URL --face jobs --jobs 500 --per-second 12.7 --tokens 100

`--face jobs` submits them to a gateway (`POST /v1/jobs`) and reads their records at the end; `--face chat` asks a model
server at once and waits (`POST /api/chat`). Prints one line of JSON: `total_s` from the first arrival to the last end,
and for `jobs` the longest wait of each class, `high_wait_s` and so on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop

MODELS = ("model-a", "model-b", "model-c", "model-d")
CLASSES = {"high": 1, "normal": 7, "low": 2}
"""Shares in tenths."""
LOOK_S = 0.25
LIMIT_S = 1800.0


@dataclass(slots=True, frozen=True)
class Arrival:
    """`at_s` since the start."""

    at_s: float
    model: str
    priority: str


@dataclass(slots=True, frozen=True)
class Ended:
    """What a job's record says, Unix seconds."""

    priority: str
    created: float
    started: float
    finished: float


def plan(jobs: int, per_second: float, seed: int) -> list[Arrival]:
    """A Poisson process; the model and the class of each job are drawn independently."""
    dice, at_s, arrivals = random.Random(seed), 0.0, []
    for _ in range(jobs):
        at_s += dice.expovariate(per_second)
        [priority] = dice.choices(list(CLASSES), weights=list(CLASSES.values()))
        arrivals.append(Arrival(at_s, dice.choice(MODELS), priority))
    return arrivals


def longest_waits(jobs: Sequence[Ended]) -> dict[str, float]:
    """Seconds from acceptance to start, the most of each class."""
    return {
        f"{name}_wait_s": max((job.started - job.created for job in jobs if job.priority == name), default=0.0)
        for name in CLASSES
    }


class Sender:
    """Sends each arrival at its time."""

    def __init__(self, http: aiohttp.ClientSession, tokens: int) -> None:
        self._http = http
        self._prompt = f"[tokens={tokens}]"

    async def submit(self, arrivals: Sequence[Arrival]) -> dict[str, float]:
        """Through a gateway."""
        ids = [await answer for answer in await self._each(arrivals, self._submit)]
        ended = [await self._ended(job_id) for job_id in ids]
        total_s = max(job.finished for job in ended) - min(job.created for job in ended)
        return {"total_s": total_s, **longest_waits(ended)}

    async def ask(self, arrivals: Sequence[Arrival]) -> dict[str, float]:
        """Straight at a model server."""
        started = time.perf_counter()
        for answer in await self._each(arrivals, self._chat):
            await answer
        return {"total_s": time.perf_counter() - started - arrivals[0].at_s}

    async def _each(self, arrivals: Sequence[Arrival], send: Any) -> list[asyncio.Task[Any]]:
        """Each in a task of its own, begun at its time."""
        start, tasks = time.perf_counter(), []
        for arrival in arrivals:
            await asyncio.sleep(max(0.0, start + arrival.at_s - time.perf_counter()))
            tasks.append(asyncio.create_task(send(arrival)))
        return tasks

    async def _chat(self, arrival: Arrival) -> None:
        async with self._http.post("/api/chat", json={**self._request(arrival), "stream": False}) as answer:
            answer.raise_for_status()
            await answer.read()

    async def _submit(self, arrival: Arrival) -> str:
        job = {"type": "chat.completion", "priority": arrival.priority, "request": self._request(arrival)}
        async with self._http.post("/v1/jobs", json=job) as answer:
            answer.raise_for_status()
            return str((await answer.json())["id"])

    def _request(self, arrival: Arrival) -> dict[str, object]:
        return {"model": arrival.model, "messages": [{"role": "user", "content": self._prompt}]}

    async def _ended(self, job_id: str) -> Ended:
        while True:
            async with self._http.get(f"/v1/jobs/{job_id}") as answer:
                answer.raise_for_status()
                job = await answer.json()
            if job["finished_at"]:
                break
            await asyncio.sleep(LOOK_S)
        if job["status"] != "succeeded":
            raise SystemExit(f"job {job_id} is {job['status']}: {job['error']}")
        return Ended(job["priority"], job["created_at"], job["started_at"], job["finished_at"])


async def run(url: str, face: str, arrivals: Sequence[Arrival], tokens: int) -> dict[str, float]:
    timeout, connector = aiohttp.ClientTimeout(total=LIMIT_S), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as http:
        sender = Sender(http, tokens)
        return await {"jobs": sender.submit, "chat": sender.ask}[face](arrivals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--face", choices=("jobs", "chat"), required=True)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--per-second", type=float, required=True)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    arrivals = plan(given.jobs, given.per_second, given.seed)
    print(json.dumps(uvloop.run(run(given.url, given.face, arrivals, given.tokens))))


if __name__ == "__main__":
    main()
