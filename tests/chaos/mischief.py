"""What goes wrong during the soak: each kind of fault in a rhythm of its own, so that they meet in every way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.scenarios.vanishing_clients import raw_stream
from tests.chaos.stack import Gateway, Stack, Worker

REDIS_DOWN_S = (0.5, 1.5)
HANGS_S = (4.0, 9.0)
"""Some of them longer than a lease."""
UPSTREAM_S = 3.0
UPSTREAM_FAULTS: tuple[dict[str, object], ...] = (
    {"kind": "status", "status": 500, "probability": 0.3},
    {"kind": "status", "status": 503, "probability": 0.5, "retry_after": 1},
    {"kind": "cut", "probability": 0.2},
    {"kind": "refuse", "probability": 0.3},
)
EXIT_WITHIN_S = 30.0


@dataclass(slots=True, eq=False)
class Mischief:
    """Faults on a stack. `workers` and `gateways` are its victims; whom it may not touch is not among them."""

    stack: Stack
    draw: random.Random
    workers: list[Worker]
    gateways: list[Gateway]
    done: Counter[str] = field(default_factory=Counter)
    exit_codes: list[int | None] = field(default_factory=list)
    """Of workers that were told to go."""
    left: set[str] = field(default_factory=set)
    """Jobs whose clients went away."""

    async def rage(self) -> None:
        """All kinds at once, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, (shortest_s, longest_s, act) in self._kinds().items():
                group.create_task(self._again_and_again(name, shortest_s, longest_s, act))

    def _kinds(self) -> dict[str, tuple[float, float, Callable[[], Awaitable[object]]]]:
        """Seconds between two, at least and at most, and what happens."""
        return {
            "worker killed": (2.0, 5.5, self._kill_worker),
            "Redis killed": (11.0, 18.0, self._kill_redis),
            "worker hung": (35.0, 55.0, self._hang_worker),
            "gateway killed": (25.0, 40.0, self._kill_gateway),
            "upstream faulty": (30.0, 50.0, self._spoil_upstream),
            "client gone": (2.0, 4.0, self._leave),
            "worker told to go": (50.0, 80.0, self._dismiss_worker),
        }

    async def _again_and_again(
        self, name: str, shortest_s: float, longest_s: float, act: Callable[[], Awaitable[object]]
    ) -> None:
        # From a chance of its own: the others' instants do not depend on how long this one's acts take.
        draw = random.Random(f"{name} {self.draw.random()}")
        while True:
            await asyncio.sleep(draw.uniform(shortest_s, longest_s))
            if await act() is not False:
                self.done[name] += 1

    async def _replaced(self, gone: Callable[[Worker], Awaitable[object]]) -> bool:
        """Take a victim out, do it, and put a new worker in its place. False when there is no victim just now."""
        if not self.workers:
            return False
        victim = self.workers.pop(self.draw.randrange(len(self.workers)))
        await gone(victim)
        self.workers.append(await self.stack.start_worker())
        return True

    async def _kill_worker(self) -> bool:
        async def kill(victim: Worker) -> None:
            victim.process.kill()

        return await self._replaced(kill)

    async def _dismiss_worker(self) -> bool:
        async def dismiss(victim: Worker) -> None:
            victim.process.terminate()
            self.exit_codes.append(await victim.process.exit_code(EXIT_WITHIN_S))

        return await self._replaced(dismiss)

    async def _hang_worker(self) -> bool:
        if not self.workers:
            return False
        victim = self.workers.pop(self.draw.randrange(len(self.workers)))
        victim.process.stop()
        await asyncio.sleep(self.draw.uniform(*HANGS_S))
        victim.process.go_on()
        self.workers.append(victim)
        return True

    async def _kill_redis(self) -> None:
        self.stack.kill_redis()
        await asyncio.sleep(self.draw.uniform(*REDIS_DOWN_S))
        await self.stack.start_redis()

    async def _kill_gateway(self) -> None:
        self.gateways.pop().process.kill()
        self.gateways.append(await self.stack.start_gateway())

    async def _spoil_upstream(self) -> None:
        url = self.stack.simulator_url + "/_sim/faults"
        async with self.stack.http.post(url, json=self.draw.choice(UPSTREAM_FAULTS)) as response:
            response.raise_for_status()
        await asyncio.sleep(UPSTREAM_S)
        async with self.stack.http.delete(url) as response:
            response.raise_for_status()

    async def _leave(self) -> None:
        """A client begins a stream and goes away; without Redis it gets none, and there is nothing to leave."""
        prompt = f"soak question of one who leaves {self.done['client gone']} [tokens=1000]"
        with suppress(ConnectionError, TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(10.0), raw_stream(self.stack.gateways[0].url, prompt) as (job_id, _):
                self.left.add(job_id)
                await asyncio.sleep(self.draw.uniform(0.0, 1.0))
