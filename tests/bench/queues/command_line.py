"""The command line that the Python queue programs share.

Only the standard library, since peers run it in environments of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True, frozen=True, kw_only=True)
class Options:
    """One command of `protocol.md`."""

    command: str
    redis: str
    jobs: int
    callers: int
    payload: int
    """Bytes of text in a job."""

    @property
    def text(self) -> str:
        return "x" * self.payload


class QueueProgram(Protocol):
    """What a queue must be able to do to be measured."""

    async def enqueue(self, options: Options) -> dict[str, float]: ...
    async def drain(self, options: Options) -> dict[str, float]: ...
    async def work(self, options: Options) -> None: ...
    async def roundtrip(self, options: Options) -> dict[str, float]: ...


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description="A queue under measurement; see protocol.md.")
    parser.add_argument("command", choices=("enqueue", "drain", "work", "roundtrip"))
    parser.add_argument("--redis", required=True)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--payload", type=int, default=1024)
    return Options(**vars(parser.parse_args(arguments)))


async def run(program: QueueProgram, options: Options) -> None:
    """Run one command and print its line."""
    if options.command == "work":
        await program.work(options)
        return
    commands = {"enqueue": program.enqueue, "drain": program.drain, "roundtrip": program.roundtrip}
    print(json.dumps(await commands[options.command](options)), flush=True)


async def share_out(options: Options, once: Callable[[], Awaitable[object]]) -> float:
    """Call `once` for every job, `callers` at a time; seconds it took."""
    left = options.jobs

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await once()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(options.callers)))
    return time.perf_counter() - started


async def time_each(options: Options, once: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """As `share_out`, timing every call: the answer of `roundtrip`."""
    took_ms: list[float] = []

    async def timed() -> None:
        started = time.perf_counter()
        await once()
        took_ms.append((time.perf_counter() - started) * 1000)

    total_s = await share_out(options, timed)
    took_ms.sort()
    p50, p99 = (took_ms[max(0, math.ceil(share * len(took_ms)) - 1)] for share in (0.5, 0.99))
    return {"p50_ms": p50, "p99_ms": p99, "per_s": options.jobs / total_s}
