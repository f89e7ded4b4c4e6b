"""What one worker and the rest of the fleet tell each other about circuits, through Redis.

Out go changes of state, probes that passed, failures in a row, and questions for permits; each is written into the
worker's `CircuitBook` as Redis answers it, in the order in which Redis did. In come the news: over a channel, and by a
look every second or so, which makes up for lost messages. Without Redis nothing is lost: what is untold is told later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.background import AWAY, end_task
from shared.queue.keys import Keys
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.circuit_book import PROBE_RETRY_S, Circuit, CircuitBook
from shared.resilience.circuit_fleet import AWAY_S, LIMIT_S, Fleet

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
"""While some circuit is or was lately open."""
QUIET_LOOK_EVERY_S = 3.0
"""While all are closed: news comes by pub/sub, looking only makes up for a lost message."""


class CircuitTalk:
    """Keeps a book and the fleet of one mind. `draw` gives numbers in [0, 1)."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        policy: BreakerPolicy,
        book: CircuitBook,
        *,
        worker_id: str,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._redis = redis
        self._channel = keys.circuit_news
        self._fleet = Fleet(redis, keys, policy, worker_id, clock)
        self._book = book
        self._clock = clock
        self._draw = draw
        # Redis' answers are taken over in the order in which it gave them.
        self.lock = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life cycle -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Learn what the fleet knows, if Redis answers, and keep up with it."""
        if self._watch is None:
            with suppress(*AWAY):
                await self.refresh()
            self._watch = asyncio.create_task(self._keep_up(), name="circuits")

    async def stop(self) -> None:
        """End the watch. The last conclusions still go out if Redis answers."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await end_task(watch)
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=LIMIT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in the background; `stop` waits for it a moment."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- permits ----------------------------------------------------------------------------------------------------

    async def ask(self, names: Sequence[str], token: str) -> float:
        """Ask for the fleet's permits, under `lock`: 0 when given, or when Redis is away and each worker probes for
        itself; else the seconds to wait."""
        if self._fleet.is_away:
            return 0.0
        try:
            given, rows = await self._fleet.ask([(name, self._book[name].known) for name in names], token)
        except AWAY as exc:
            self._fleet.lost(exc)
            return 0.0
        except asyncio.CancelledError:
            self.release(names, token)  # the permit may have been given
            raise
        for row in rows:
            self._book.adopt(row)
        if given:
            return 0.0
        self._book.others_probe(names)
        return max(row.wait_s for row in rows) or PROBE_RETRY_S

    def release(self, names: Sequence[str], token: str) -> None:
        """Give permits back unused, in the background."""
        self.spawn(self._release(names, token))

    async def _release(self, names: Sequence[str], token: str) -> None:
        with suppress(*AWAY):  # else the lease's end frees them
            await self._fleet.release(names, token)

    # -- telling ----------------------------------------------------------------------------------------------------

    def tell(self, circuit: Circuit) -> None:
        """Tell the circuit's conclusion in the background, now or once Redis is back."""
        self.spawn(self._locked(self._send, circuit))

    def tell_failures(self, circuit: Circuit) -> None:
        """Give the fleet the failures it has not counted yet. Several of one moment go out together."""
        if not circuit.telling:
            circuit.telling = True
            self.spawn(self._locked(self._send_failures, circuit))

    async def _locked(self, send: Callable[[Circuit], Coroutine[Any, Any, None]], circuit: Circuit) -> None:
        async with self.lock:
            try:
                await send(circuit)
            except AWAY as exc:
                self._fleet.lost(exc)

    async def _send(self, circuit: Circuit) -> None:
        conclusion = circuit.unsent
        if conclusion is None:
            return
        row = await self._fleet.tell(circuit.name, circuit.known, conclusion, self._draw())
        if circuit.unsent is conclusion:
            circuit.unsent = None
            self._book.adopt(row)

    async def _send_failures(self, circuit: Circuit) -> None:
        count, circuit.untold, circuit.telling = circuit.untold, 0, False
        if not count or self._fleet.is_away:
            return  # a success or a change came in between; or each worker counts for itself now
        now = self._clock()
        row = await self._fleet.failed(
            circuit.name, circuit.known, count, since_first_s=now - circuit.untold_since,
            since_success_s=circuit.breaker.since_success_s(now), telling=circuit.breaker.telling_row(),
            reason=circuit.reason, unit=self._draw(),
        )  # fmt: skip
        self._book.adopt(row)

    # -- hearing ----------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Tell what is untold, then take over what the fleet has agreed on. Raises one of `AWAY` without Redis."""
        async with self.lock:
            for circuit in [circuit for circuit in self._book.all() if circuit.unsent]:
                await self._send(circuit)
            rows = await self._fleet.rows()
            self._book.forget_rows_but({row.name for row in rows})
            for row in rows:
                self._book.adopt(row)

    async def _keep_up(self) -> None:
        while True:
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(self._channel)
                while True:
                    await self.refresh()
                    quiet = all(circuit.row is None and circuit.unsent is None for circuit in self._book.all())
                    message = await pubsub.get_message(timeout=QUIET_LOOK_EVERY_S if quiet else LOOK_EVERY_S)
                    if message and message["data"] == b"reset":
                        failing = self._book.reset()
                        if failing:
                            await self._fleet.forget_failures(failing)
            except AWAY as exc:
                self._fleet.lost(exc)
                await asyncio.sleep(AWAY_S * random.uniform(0.3, 0.6))
            except Exception:
                log.exception("circuits.watch_failed")
                await asyncio.sleep(AWAY_S)
            finally:
                with suppress(*AWAY):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5
