"""The circuit breakers of one worker process, agreeing with those of the others through Redis.

Each worker counts its own results: that is fast and goes on while Redis is away. What it concludes it tells the others
(an opening, a closing), and it obeys what they tell. Failures in a row are also counted together: a failure is told as
it happens, with the time since the worker's latest success, and the worker that completes a telling row opens the
circuit for all. So a host that is gone costs the fleet one row, not one a worker. Successes are heard of only from
those who fail; where they have ended rows of late, a row must therefore be twice as long as the longest of those. Only
one call in the whole fleet probes a half-open circuit: it needs a permit that Redis gives to one at a time, for the
lease's length. While calls succeed, nothing but memory is touched.

When Redis does not answer, each worker goes on alone: it opens and closes its circuits by what it sees itself and
sends one probe of its own. What it concluded meanwhile it tells once Redis is back; if the others have agreed on
something newer, it takes that over.

`breaker` has the rules, `circuit_book` what this worker knows, `circuit_talk` what it tells and hears.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.errors import BackendTimeout
from shared.queue.keys import Keys
from shared.resilience.breaker import BreakerPolicy
from shared.resilience.circuit_book import PROBE_RETRY_S, Circuit, CircuitBook, OnChange
from shared.resilience.circuit_fleet import Conclusion
from shared.resilience.circuit_talk import CircuitTalk
from shared.resilience.circuits import HOST_PREFIX, CircuitView, split_name
from shared.resilience.judgement import NO_VERDICT, WELL, AskLoaded, Judgement, Outcome, judge, judge_silence

log = structlog.get_logger()

ASK_LIMIT_S = 5.0


class Admission:
    """Whether a call may go out; if so, hand it to `record` or `conclude` once the call has ended."""

    __slots__ = ("allowed", "began", "names", "permits", "retry_in_s", "token")

    def __init__(
        self, names: Sequence[str], began: int, *, token: str = "", permits: Sequence[str] = (), wait_s: float = 0.0
    ) -> None:
        self.allowed = wait_s <= 0
        self.retry_in_s = wait_s
        self.names = names
        self.began = began
        self.token = token
        self.permits = permits

    @property
    def is_probe(self) -> bool:
        """A half-open circuit rides on this call."""
        return bool(self.permits)


class Breakers:
    """All circuits of one worker process. `on_change` hears of every change of state this process notices."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        policy: BreakerPolicy,
        *,
        worker_id: str,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        on_change: OnChange | None = None,
    ) -> None:
        self._book = CircuitBook(policy, worker_id=worker_id, clock=clock, on_change=on_change)
        self._talk = CircuitTalk(redis, keys, policy, self._book, worker_id=worker_id, clock=clock, draw=draw)
        self._enabled = enabled
        self._clock = clock
        self._draw = draw
        self._token_root = f"{worker_id}.{secrets.token_hex(4)}."
        self._tokens = 0

    async def start(self) -> None:
        """Learn what the fleet knows, if Redis answers, and keep up with it."""
        if self._enabled:
            await self._talk.start()

    async def stop(self) -> None:
        """End the watch. The last conclusions still go out if Redis answers."""
        await self._talk.stop()

    async def refresh(self) -> None:
        """Tell what is untold, then take over what the fleet has agreed on. Raises RedisError or OSError without
        Redis."""
        await self._talk.refresh()

    def snapshot(self) -> list[CircuitView]:
        """Every circuit in use here, by name."""
        return self._book.views()

    def is_open(self, name: str) -> bool:
        """Whether that circuit keeps calls back now, as far as this process knows."""
        return bool(self._book.troubled) and self._book.standing((name,))[0] > 0

    # -- asking -----------------------------------------------------------------------------------------------------

    async def admit(self, names: Sequence[str]) -> Admission:
        """May a call that uses these circuits go out? All must agree. Waits for Redis only where one is half-open."""
        book = self._book
        if not book.troubled:
            return Admission(names, book.generations.current)
        wait_s, half_open = book.standing(names)
        if wait_s > 0 or not half_open:
            return Admission(names, book.generations.current, wait_s=wait_s)
        return await self._probe(names)

    async def _probe(self, names: Sequence[str]) -> Admission:
        book = self._book
        async with self._talk.lock:
            # Whoever held the lock may have taken the permit.
            wait_s, asked = book.standing(names)
            if asked and wait_s <= 0:
                self._tokens += 1
                token = self._token_root + str(self._tokens)
                wait_s = await self._talk.ask(asked, token)
                if wait_s <= 0:
                    # Meanwhile results came in: some may be closed now, others have opened.
                    wait_s, half_open = book.standing(names)
                    if wait_s <= 0 and set(half_open) <= set(asked):
                        now = self._clock()
                        for name in half_open:
                            book[name].breaker.take_permit(token, now)
                        return Admission(names, book.generations.current, token=token, permits=half_open)
                    self._talk.release(asked, token)
                    wait_s = wait_s or PROBE_RETRY_S
        return Admission(names, book.generations.current, wait_s=wait_s)

    # -- results ----------------------------------------------------------------------------------------------------

    def record(self, admission: Admission, outcome: Judgement | Outcome | str = WELL, *, under_way: int = 0) -> None:
        """The call has ended so. One outcome for both scopes, or a `Judgement` that tells host and model apart.
        `under_way`: calls of this worker to the same model and host that go on."""
        if not (self._enabled and admission.allowed):
            return
        judgement = outcome if isinstance(outcome, Judgement) else _for_both(Outcome(outcome))
        now = self._clock()
        for name in admission.names:
            verdict = judgement.host if name.startswith(HOST_PREFIX) else judgement.model
            circuit = self._book.get(name)
            if circuit is None:
                if verdict is Outcome.IGNORED:
                    continue
                circuit = self._book.add(name)
            if name in admission.permits:
                self._probed(circuit, admission, verdict, judgement.reason, now)
            elif verdict is Outcome.SUCCESS:
                circuit.untold = 0
                circuit.breaker.succeeded(admission.began, now)
            elif verdict is Outcome.FAILURE and admission.began >= circuit.breaker.generation:
                # A connection comes about at once or not at all, whatever becomes of others.
                waits_for = 0 if name.startswith(HOST_PREFIX) else under_way
                self._failed(circuit, admission, judgement.reason, now, waits_for)

    def conclude(
        self,
        admission: Admission,
        error: BaseException | None,
        *,
        ask: AskLoaded | None = None,
        full_wait: bool = True,
        under_way: int = 0,
    ) -> None:
        """`record` what the error means. After a timeout the host is first asked, in the background, what it has in
        memory (`ask`, e.g. `backend.loaded`); `full_wait` is False where the job's deadline had cut the limits."""
        if isinstance(error, BackendTimeout) and ask is not None and self._enabled:
            self._talk.spawn(self._record_silence(admission, error, ask, full_wait))
        else:
            self.record(admission, judge(error), under_way=under_way)

    async def _record_silence(
        self, admission: Admission, error: BackendTimeout, ask: AskLoaded, full_wait: bool
    ) -> None:
        model = next((split_name(name)[0].partition(":")[2] for name in admission.names if "@" in name), "")

        async def limited() -> Any:
            async with asyncio.timeout(ASK_LIMIT_S):
                return await ask()

        try:
            verdict = await judge_silence(error, model, limited, full_wait=full_wait)
        except Exception:
            log.exception("circuits.question_failed", model=model)
            verdict = NO_VERDICT
        self.record(admission, verdict)

    def _probed(self, circuit: Circuit, admission: Admission, verdict: Outcome, reason: str, now: float) -> None:
        breaker, token = circuit.breaker, admission.token
        if verdict is Outcome.SUCCESS and admission.began >= breaker.generation:
            closed = breaker.succeeded(admission.began, now)
            circuit.unsent = Conclusion(opened=False, token=token, closed_here=closed)
            if closed:
                self._book.note(circuit)
            self._talk.tell(circuit)
        elif verdict is Outcome.FAILURE and breaker.failed(admission.began, now, unit=self._draw(), token=token):
            self._opened(circuit, token, reason)
        else:
            breaker.gave_up(token)
            self._talk.release([circuit.name], token)

    def _failed(self, circuit: Circuit, admission: Admission, reason: str, now: float, under_way: int) -> None:
        if circuit.breaker.failed(admission.began, now, unit=self._draw(), under_way=under_way):
            self._opened(circuit, "", reason)
            return
        circuit.reason = reason
        if not circuit.untold:
            circuit.untold_since = now
        circuit.untold += 1
        if circuit.breaker.outweighs(under_way):
            self._talk.tell_failures(circuit)

    def _opened(self, circuit: Circuit, token: str, reason: str) -> None:
        circuit.reason = reason
        circuit.unsent = Conclusion(opened=True, token=token, reason=reason, openings=circuit.breaker.openings)
        self._book.note(circuit)
        self._talk.tell(circuit)


def _for_both(outcome: Outcome) -> Judgement:
    return Judgement(outcome, outcome, "backend_error")
