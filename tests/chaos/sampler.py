"""Watches job states all the time: a state that has ended once must stay as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from redis.exceptions import RedisError

from shared.jobs import State
from tests.chaos.stack import Stack

PERIOD_S = 0.05
SAMPLE = 150


class Sampler:
    """`async with Sampler(stack, ids)`; `ids` gives the job ids known so far, oldest first."""

    def __init__(self, stack: Stack, ids: Callable[[], Iterable[str]]) -> None:
        self._stack = stack
        self._ids = ids
        self._next = 0
        self.ends: dict[str, str] = {}
        """The first end seen of each job."""
        self.changed: list[str] = []
        self.samples = 0
        self._task: asyncio.Task[None] | None = None
        self._over = False

    async def __aenter__(self) -> Sampler:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        # Asked each time: a cancellation in the middle of a command may come out as an error of the client's.
        while not self._over:
            with suppress(RedisError, OSError):  # it may just have been killed
                await self._sample()
            await asyncio.sleep(PERIOD_S)

    async def _sample(self) -> None:
        known = list(self._ids())
        unfinished = [job_id for job_id in known[-SAMPLE:] if job_id not in self.ends]
        turn = [known[(self._next + i) % len(known)] for i in range(min(SAMPLE, len(known)))]
        self._next += len(turn)
        chosen = list(dict.fromkeys([*unfinished, *turn]))
        if not chosen:
            return
        pipe = self._stack.redis.pipeline(transaction=False)
        for job_id in chosen:
            pipe.hget(self._stack.keys.record(job_id), "s")
        for job_id, raw in zip(chosen, await pipe.execute(), strict=True):
            self.note(job_id, raw.decode() if raw else "")

    def note(self, job_id: str, state: str) -> None:
        """A state as read just now."""
        self.samples += 1
        first = self.ends.get(job_id)
        if first is None and state and State(state).is_terminal:
            self.ends[job_id] = state
        elif first is not None and state != first:
            self.changed.append(f"{job_id} was {first}, then {state or 'gone'}")
