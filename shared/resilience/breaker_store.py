"""The circuit breakers of one worker process, agreeing with those of the others through Redis.

Each worker counts its own results: that is fast and goes on while Redis is away. What it concludes it tells the others
(an opening, a closing), and it obeys what they tell: news come over a channel, and every second by a look. Only one
call in the whole fleet probes a half-open circuit: it needs a permit that Redis gives to one at a time, for the
lease's length. While every circuit is closed, admitting a call touches nothing but memory.

When Redis does not answer, each worker goes on alone: it opens and closes its circuits by what it sees itself and
sends one probe of its own. What it concluded meanwhile it tells once Redis is back; if the others have agreed on
something newer, it takes that over.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.errors import BackendTimeout
from shared.queue.keys import Keys
from shared.resilience.breaker import Breaker, BreakerPolicy, BreakerState, Generations
from shared.resilience.circuit_fleet import AWAY, AWAY_S, LIMIT_S, Conclusion, Fleet
from shared.resilience.circuits import HOST_PREFIX, CircuitRow, CircuitView, split_name
from shared.resilience.judgement import NO_VERDICT, WELL, AskLoaded, Judgement, Outcome, judge, judge_silence

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
"""While some circuit is or was lately open."""
QUIET_LOOK_EVERY_S = 3.0
"""While all are closed: news comes by pub/sub, looking only makes up for a lost message."""
PROBE_RETRY_S = 1.0
"""When to ask again while somebody else probes."""
SAME_ANSWER_S = 0.25
"""For so long Redis is not asked again after it said that somebody else probes."""
ASK_LIMIT_S = 5.0
MAX_CIRCUITS = 2048
"""Circuits kept in memory. Callers choose model names, so there may be any number of them."""

OnChange = Callable[[str, BreakerState], None]


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


class _Circuit:
    """A breaker, what the fleet last said about it, and what the fleet has yet to hear."""

    __slots__ = ("ask_from", "breaker", "name", "reason", "row", "unsent")

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name = name
        self.breaker = breaker
        self.row: CircuitRow | None = None
        self.reason = ""
        self.unsent: Conclusion | None = None
        self.ask_from = float("-inf")

    @property
    def known(self) -> int:
        """The fleet's generation of this circuit as known here; 0: none."""
        return 0 if self.row is None else self.row.generation


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
        self._redis = redis
        self._channel = keys.circuit_news
        self._fleet = Fleet(redis, keys, policy, worker_id, clock)
        self._policy = policy
        self._worker_id = worker_id
        self._enabled = enabled
        self._clock = clock
        self._draw = draw
        self._on_change = on_change
        self._generations = Generations()
        self._circuits: dict[str, _Circuit] = {}
        self._troubled: set[str] = set()
        self._token_root = f"{worker_id}.{secrets.token_hex(4)}."
        self._tokens = 0
        # Redis' answers are taken over in the order in which it gave them.
        self._lock = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life cycle -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Learn what the fleet knows, if Redis answers, and keep up with it."""
        if self._enabled and self._watch is None:
            with suppress(*AWAY):
                await self.refresh()
            self._watch = asyncio.create_task(self._keep_up(), name="circuits")

    async def stop(self) -> None:
        """End the watch. The last conclusions still go out if Redis answers."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=LIMIT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # -- asking -----------------------------------------------------------------------------------------------------

    async def admit(self, names: Sequence[str]) -> Admission:
        """May a call that uses these circuits go out? All must agree. Waits for Redis only where one is half-open."""
        if not self._troubled:
            return Admission(names, self._generations.current)
        wait_s, half_open = self._standing(names)
        if wait_s > 0 or not half_open:
            return Admission(names, self._generations.current, wait_s=wait_s)
        return await self._probe(names)

    def _standing(self, names: Sequence[str]) -> tuple[float, list[str]]:
        """Seconds to wait, by what is known here, and which circuits need a permit."""
        now = self._clock()
        wait_s, half_open = 0.0, []
        for name in names:
            if name not in self._troubled:
                continue
            circuit = self._circuits[name]
            state = self._look(circuit, now)
            wanted_s = circuit.breaker.wait_s(now)
            if state is BreakerState.HALF_OPEN:
                half_open.append(name)
                wanted_s = max(min(PROBE_RETRY_S, wanted_s), circuit.ask_from - now)
            wait_s = max(wait_s, wanted_s)
        return wait_s, half_open

    async def _probe(self, names: Sequence[str]) -> Admission:
        async with self._lock:
            # Whoever held the lock may have taken the permit.
            wait_s, asked = self._standing(names)
            if asked and wait_s <= 0:
                self._tokens += 1
                token = self._token_root + str(self._tokens)
                wait_s = await self._fleet_wait_s(asked, token)
                if wait_s <= 0:
                    # Meanwhile results came in: some may be closed now, others have opened.
                    wait_s, half_open = self._standing(names)
                    if wait_s <= 0 and set(half_open) <= set(asked):
                        now = self._clock()
                        for name in half_open:
                            self._circuits[name].breaker.take_permit(token, now)
                        return Admission(names, self._generations.current, token=token, permits=half_open)
                    self._spawn(self._release(asked, token))
                    wait_s = wait_s or PROBE_RETRY_S
        return Admission(names, self._generations.current, wait_s=wait_s)

    async def _fleet_wait_s(self, names: Sequence[str], token: str) -> float:
        """Ask for the fleet's permits: 0 when given, or when Redis is away and each worker probes for itself."""
        if self._fleet.is_away:
            return 0.0
        try:
            given, rows = await self._fleet.ask([(name, self._circuits[name].known) for name in names], token)
        except AWAY as exc:
            self._fleet.lost(exc)
            return 0.0
        except asyncio.CancelledError:
            self._spawn(self._release(names, token))  # the permit may have been given
            raise
        for row in rows:
            self._adopt(row)
        if given:
            return 0.0
        for name in names:
            self._circuits[name].ask_from = self._clock() + SAME_ANSWER_S
        return max(row.wait_s for row in rows) or PROBE_RETRY_S

    # -- results ----------------------------------------------------------------------------------------------------

    def record(self, admission: Admission, outcome: Judgement | Outcome | str = WELL) -> None:
        """The call has ended so. One outcome for both scopes, or a `Judgement` that tells host and model apart."""
        if not (self._enabled and admission.allowed):
            return
        judgement = outcome if isinstance(outcome, Judgement) else _for_both(Outcome(outcome))
        now = self._clock()
        for name in admission.names:
            verdict = judgement.host if name.startswith(HOST_PREFIX) else judgement.model
            circuit = self._circuits.get(name)
            if circuit is None:
                if verdict is Outcome.IGNORED:
                    continue
                circuit = self._add(name)
            if name in admission.permits:
                self._probed(circuit, admission, verdict, judgement.reason, now)
            elif verdict is Outcome.SUCCESS:
                circuit.breaker.succeeded(admission.began, now)
            elif verdict is Outcome.FAILURE and circuit.breaker.failed(admission.began, now, unit=self._draw()):
                self._opened(circuit, "", judgement.reason)

    def conclude(
        self, admission: Admission, error: BaseException | None, *, ask: AskLoaded | None = None, full_wait: bool = True
    ) -> None:
        """`record` what the error means. After a timeout the host is first asked, in the background, what it has in
        memory (`ask`, e.g. `backend.loaded`); `full_wait` is False where the job's deadline had cut the limits."""
        if isinstance(error, BackendTimeout) and ask is not None and self._enabled:
            self._spawn(self._record_silence(admission, error, ask, full_wait))
        else:
            self.record(admission, judge(error))

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

    def _probed(self, circuit: _Circuit, admission: Admission, verdict: Outcome, reason: str, now: float) -> None:
        breaker, token = circuit.breaker, admission.token
        if verdict is Outcome.SUCCESS and admission.began >= breaker.generation:
            closed = breaker.succeeded(admission.began, now)
            circuit.unsent = Conclusion(opened=False, token=token, closed_here=closed)
            if closed:
                self._note(circuit)
            self._spawn(self._tell(circuit))
        elif verdict is Outcome.FAILURE and breaker.failed(admission.began, now, unit=self._draw(), token=token):
            self._opened(circuit, token, reason)
        else:
            breaker.gave_up(token)
            self._spawn(self._release([circuit.name], token))

    def _opened(self, circuit: _Circuit, token: str, reason: str) -> None:
        circuit.reason = reason
        circuit.unsent = Conclusion(opened=True, token=token, reason=reason, openings=circuit.breaker.openings)
        self._note(circuit)
        self._spawn(self._tell(circuit))

    # -- the fleet --------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Tell what is untold, then take over what the fleet has agreed on. Raises one of `AWAY` without Redis."""
        async with self._lock:
            for circuit in [circuit for circuit in self._circuits.values() if circuit.unsent]:
                await self._send(circuit)
            rows = await self._fleet.rows()
            names = {row.name for row in rows}
            for circuit in self._circuits.values():
                if circuit.row is not None and circuit.name not in names:
                    circuit.row = None  # lapsed, or Redis was emptied; this worker still knows what it knows
            for row in rows:
                self._adopt(row)

    async def _keep_up(self) -> None:
        while True:
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(self._channel)
                while True:
                    await self.refresh()
                    quiet = all(circuit.row is None and circuit.unsent is None for circuit in self._circuits.values())
                    message = await pubsub.get_message(timeout=QUIET_LOOK_EVERY_S if quiet else LOOK_EVERY_S)
                    if message and message["data"] == b"reset":
                        self._reset()
            except AWAY as exc:
                self._fleet.lost(exc)
                await asyncio.sleep(AWAY_S * random.uniform(0.3, 0.6))
            except Exception:
                log.exception("circuits.watch_failed")
                await asyncio.sleep(AWAY_S)
            finally:
                with suppress(*AWAY):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5

    async def _tell(self, circuit: _Circuit) -> None:
        async with self._lock:
            try:
                await self._send(circuit)
            except AWAY as exc:
                self._fleet.lost(exc)  # `refresh` sends it once Redis is back

    async def _send(self, circuit: _Circuit) -> None:
        conclusion = circuit.unsent
        if conclusion is None:
            return
        row = await self._fleet.tell(circuit.name, circuit.known, conclusion, self._draw())
        if circuit.unsent is conclusion:
            circuit.unsent = None
            self._adopt(row)

    async def _release(self, names: Sequence[str], token: str) -> None:
        with suppress(*AWAY):  # else the lease's end frees them
            await self._fleet.release(names, token)

    def _adopt(self, row: CircuitRow) -> None:
        if not row.state:
            return
        circuit = self._circuits.get(row.name) or self._add(row.name)
        if row.generation <= circuit.known:
            return
        circuit.row, circuit.reason, circuit.unsent, circuit.ask_from = row, row.reason, None, float("-inf")
        state = BreakerState(row.state)  # never half-open: that is what an open one becomes by itself
        if circuit.breaker.adopt(state, self._clock(), openings=row.openings, wait_s=row.wait_s, age_s=row.age_s):
            self._note(circuit)

    def _reset(self) -> None:
        for circuit in self._circuits.values():
            circuit.unsent = None
            if circuit.breaker.adopt(BreakerState.CLOSED, self._clock()):
                self._note(circuit)

    # -- the circuits here ------------------------------------------------------------------------------------------

    def _add(self, name: str) -> _Circuit:
        if len(self._circuits) >= MAX_CIRCUITS:
            oldest = next((known for known in self._circuits if known not in self._troubled), None)
            if oldest is not None:
                del self._circuits[oldest]
        circuit = self._circuits[name] = _Circuit(name, Breaker(self._policy, self._generations))
        return circuit

    def _look(self, circuit: _Circuit, now: float) -> BreakerState:
        before = circuit.breaker.state
        after = circuit.breaker.look(now)
        if after is not before:
            self._note(circuit)
        return after

    def _note(self, circuit: _Circuit) -> None:
        """The circuit has changed its state."""
        state, name = circuit.breaker.state, circuit.name
        if state is BreakerState.CLOSED:
            self._troubled.discard(name)
            log.info("circuit.closed", circuit=name)
        else:
            self._troubled.add(name)
            wait_s = round(circuit.breaker.wait_s(self._clock()), 1)
            log.warning(f"circuit.{state}", circuit=name, reason=circuit.reason, retry_in_s=wait_s)
        if self._on_change:
            self._on_change(name, state)

    def snapshot(self) -> list[CircuitView]:
        """Every circuit in use here, by name."""
        now, views = self._clock(), []
        for name, circuit in sorted(self._circuits.items()):
            state = self._look(circuit, now)
            row = None if circuit.unsent else circuit.row
            views.append(
                CircuitView(
                    name=name,
                    state=state,
                    retry_in_s=circuit.breaker.wait_s(now) if state is BreakerState.OPEN else 0.0,
                    openings=circuit.breaker.openings,
                    reason="" if state is BreakerState.CLOSED else circuit.reason,
                    changed_by=row.worker if row else self._worker_id if circuit.unsent else "",
                    changed_at=row.changed_at if row else 0.0,
                    forced=row.forced if row else False,
                )
            )
        return views

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _for_both(outcome: Outcome) -> Judgement:
    return Judgement(outcome, outcome, "backend_error")
