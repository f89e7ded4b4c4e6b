"""A load test: many clients ask at once, for a while; every answer must come, whole.

    python -m tests.integration.load                               a stack of its own, in front of the simulator
    python -m tests.integration.load --url http://127.0.0.1:8000   a running gateway; ARRIERO_API_KEY is sent along

Exit status 1 when any request failed.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

import aiohttp
import typer

from tests.integration.stack import Stack, chat_body

LIMIT_S = 120.0


@dataclass(slots=True)
class Tally:
    """`seconds` of the good answers; `faults` by what was wrong."""

    seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def text(self, passed_s: float) -> str:
        """A line for a person."""
        total = len(self.seconds) + self.faults.total()
        lines = [f"{total} requests in {passed_s:.1f} s, {len(self.seconds) / passed_s:.1f} answered a second"]
        if len(self.seconds) > 1:
            cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
            lines.append(f"p50 {cuts[49] * 1000:.0f} ms, p95 {cuts[94] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms")
        lines += [f"{count} x {fault}" for fault, count in self.faults.most_common()] or ["no request failed"]
        return "\n".join(lines)


async def load(url: str, *, clients: int, seconds: float, model: str, key: str = "") -> tuple[Tally, float]:
    """What came of `clients` that ask one after the other for so long, and how long that took in the end."""
    tally, until, began = Tally(), time.monotonic() + seconds, time.monotonic()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout, connector=connector) as http:

        async def client(number: int) -> None:
            while time.monotonic() < until:
                asked = time.monotonic()
                if fault := await _ask(http, model, f"Load test, client {number}"):
                    tally.faults[fault] += 1
                    await asyncio.sleep(0.1)
                else:
                    tally.seconds.append(time.monotonic() - asked)

        await asyncio.gather(*(client(number) for number in range(clients)))
    return tally, time.monotonic() - began


async def _ask(http: aiohttp.ClientSession, model: str, text: str) -> str:
    """What was wrong; empty if nothing."""
    try:
        async with http.post("/v1/chat/completions", json=chat_body(text, model, max_tokens=16)) as answer:
            body = await answer.json(content_type=None)
            if answer.status != 200:
                return f"{answer.status} {body.get('error', {}).get('code', '')}"
            return "" if body["choices"][0]["message"]["content"] else "an empty answer"
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as exc:
        return type(exc).__name__


def main(
    url: Annotated[str, typer.Option(help="A running gateway; default: one of its own.")] = "",
    clients: Annotated[int, typer.Option(min=1, max=5000, help="Requests at a time.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10.0,
    model: Annotated[str, typer.Option(help="Model to ask.")] = "llama3.2",
) -> None:
    """Ask a gateway from many clients at once and say how it did."""
    with ExitStack() as ending:
        if not url:
            stack = ending.enter_context(Stack())
            stack.gateway()
            stack.worker(WORKER_CONCURRENCY="32")
            stack.wait()
            url = stack.url
        key = os.environ.get("ARRIERO_API_KEY", "")
        tally, passed_s = asyncio.run(load(url, clients=clients, seconds=seconds, model=model, key=key))
    sys.stdout.write(tally.text(passed_s) + "\n")
    raise typer.Exit(1 if tally.faults or not tally.seconds else 0)


if __name__ == "__main__":
    typer.run(main)
