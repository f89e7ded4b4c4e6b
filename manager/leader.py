"""One leader among several managers.

The leader holds a lease in Redis under a random token and renews it. Each term has an epoch that only grows. Two things
keep a manager that lost the leadership, or was frozen for a while, from doing harm:

- it stops acting before its lease can have ended. It reckons from the moment at which it *sent* the last renewal that
  succeeded, on a clock of its own that no adjustment moves and that runs on while the machine sleeps;
- what it writes to Redis as the leader goes through `Term.write`, which the latest epoch alone passes. So a write that
  was on its way when the leadership changed is refused.

A model server knows no epochs: an order that reached it just before the term ended is carried out. Such orders must be
harmless when given twice or late (load, unload, pull), or be asked about again (delete).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.background import AWAY, Rounds, end_task
from shared.lua import Field, read_script, run_script, script_hash
from shared.queue.keys import Keys

log = structlog.get_logger()

LIMIT_S = 1.0
"""How long one question to Redis may take."""
RESTART_PAUSE_S = 5.0
_SCRIPTS = {name: read_script(files("manager") / "lua", name) for name in ("lead", "resign", "fenced")}
_HASHES = {name: script_hash(text) for name, text in _SCRIPTS.items()}


def steady_clock() -> float:
    """Seconds that also count while the machine sleeps, where the system has such a clock."""
    clock_id = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock_id) if clock_id is not None else time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """Seconds. A dead leader is followed within `lease_s + renew_s`; a living one stops `margin_s` before its end.

    `margin_s` covers what a call that is being cancelled may still take, and the drift between two clocks.
    """

    lease_s: float = 8.0
    renew_s: float = 2.0
    margin_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderInfo:
    """Who leads, as Redis has it. `lease_left_s` in seconds."""

    name: str
    epoch: int
    lease_left_s: float


class TermOver(Exception):
    """The leadership has ended, or has gone to somebody else."""


class Term:
    """One manager's time as the leader."""

    def __init__(self, leadership: Leadership, epoch: int) -> None:
        self._leadership = leadership
        self.epoch = epoch

    @property
    def is_over(self) -> bool:
        """Ask right before each act that cannot be taken back."""
        return self._leadership.epoch != self.epoch

    async def write(self, command: str, key: str, *fields: Field) -> Any:
        """One Redis command on one key, done only if no later term has begun; its reply.

        Raises TermOver, and RedisError or OSError when Redis does not answer.
        """
        if self.is_over:
            raise TermOver
        keys = [self._leadership.keys.leader_epoch, key]
        reply = await self._leadership.run("fenced", keys, self.epoch, command, *fields)
        if reply[0] != 1:
            raise TermOver
        return reply[1]


class Leadership:
    """This manager's part in choosing a leader. `name` is for people to read; it need not be unique."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        name: str,
        policy: LeasePolicy | None = None,
        clock: Callable[[], float] = steady_clock,
    ) -> None:
        self._redis = redis
        self.keys = keys
        self._name = name
        self._policy = policy or LeasePolicy()
        self._clock = clock
        self._token = secrets.token_hex(16)
        self._epoch = 0
        self._until = 0.0
        self._answered = asyncio.Event()
        self._trying = Rounds("leadership", self.attempt, self._policy.renew_s, away="leader.redis_away")

    # -- what others ask --------------------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this manager may act as the leader right now."""
        return self.epoch > 0

    @property
    def epoch(self) -> int:
        """Of the present term; 0 while this manager does not lead."""
        return self._epoch if self._clock() < self._until else 0

    async def read(self) -> LeaderInfo | None:
        """Who leads; None when nobody does. Raises RedisError or OSError when Redis does not answer."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self.keys.leader)
        pipe.pttl(self.keys.leader)
        async with asyncio.timeout(LIMIT_S):
            fields, left_ms = await pipe.execute()
        if not fields:
            return None
        return LeaderInfo(
            name=fields[b"name"].decode(), epoch=int(fields[b"epoch"]), lease_left_s=max(0, left_ms) / 1000
        )

    async def lead(self, work: Callable[[Term], Awaitable[None]]) -> None:
        """Run `work` whenever this manager leads, for ever. It is cancelled when its term is over, and started again,
        after a pause, when it returned or failed before that.
        """
        while True:
            while not (epoch := self.epoch):
                self._answered.clear()
                await self._answered.wait()
            term = Term(self, epoch)
            log.info("leader.began", epoch=term.epoch)
            working = asyncio.ensure_future(work(term))
            try:
                await self._until_over(term, working)
            finally:
                await end_task(working)
            log.info("leader.ended", epoch=term.epoch, still_leading=not term.is_over)

    async def _until_over(self, term: Term, working: asyncio.Future[None]) -> None:
        while not term.is_over and not working.done():
            self._answered.clear()
            answered: asyncio.Future[Any] = asyncio.ensure_future(self._answered.wait())
            try:
                left_s = max(0.001, self._until - self._clock())
                waiting: set[asyncio.Future[Any]] = {working, answered}
                await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                answered.cancel()
        if working.done() and not working.cancelled() and not term.is_over:
            error = working.exception()
            if error is not None and not isinstance(error, TermOver):
                log.error("leader.work_failed", exc_info=error)
            await asyncio.sleep(RESTART_PAUSE_S)

    # -- life cycle -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to try for the leadership. Redis may be away."""
        self._trying.start()

    async def stop(self) -> None:
        """Stop trying, and give the leadership back if it is ours, so that another manager follows at once."""
        if not await self._trying.stop():
            return
        self._until = 0.0
        self._answered.set()
        try:
            await self.run("resign", [self.keys.leader], self._token)
        except AWAY as exc:
            log.warning("leader.left_without_farewell", error=type(exc).__name__)

    async def attempt(self) -> bool:
        """Take or renew the leadership, once; whether it is ours. Raises RedisError or OSError."""
        sent_at = self._clock()
        lease_ms = int(self._policy.lease_s * 1000)
        keys = [self.keys.leader, self.keys.leader_epoch]
        self._epoch = await self.run("lead", keys, self._token, self._name, lease_ms)
        self._until = sent_at + self._policy.lease_s - self._policy.margin_s if self._epoch else 0.0
        self._answered.set()
        return self.is_leader

    async def run(self, script: str, keys: list[str], *fields: Field) -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await run_script(self._redis, _SCRIPTS[script], _HASHES[script], len(keys), *keys, *fields)
