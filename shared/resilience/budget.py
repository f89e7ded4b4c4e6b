"""The retry budget: retries of the calls to one model on one host, kept to a share of its successes.

A bucket of tokens per (host, model), shared by all workers. A retry takes one token, a success pays in a fifth of
one, so that retries add at most 20 % to the load once the first `size` are spent. A slow trickle keeps a bucket from
staying empty where nothing succeeds because nothing is tried. Who finds it empty waits and asks again: a delayed
retry, not a failed job.

Successes are the common case, so they are only counted here and paid in once a second, or with the next retry.
Compare gRPC's retry throttling (proposal A6).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.background import AWAY, Rounds
from shared.queue.keys import Keys
from shared.resilience.scripts import Scripts

log = structlog.get_logger()

PAY_EVERY_S = 1.0
ROUNDING = 1e-9
"""A bucket that was refilled in many small steps is not kept waiting for the last bit of a float."""
LIMIT_S = 0.5
AWAY_S = 1.0
MAX_BUCKETS = 2048
EMPTY_RETRY_S = 1.0
"""A good pause before asking an empty budget again."""


@dataclass(slots=True, frozen=True, kw_only=True)
class BudgetPolicy:
    """In retries. `per_s` must be more than 0."""

    size: float = 10.0
    per_success: float = 0.2
    per_s: float = 1.0


class Bucket:
    """One budget of one process. Pure: `now` is any monotonic clock's reading in seconds."""

    __slots__ = ("_as_of", "_level", "_policy")

    def __init__(self, policy: BudgetPolicy, now: float) -> None:
        self._policy = policy
        self._level = policy.size
        self._as_of = now

    def pay(self, successes: int, now: float) -> None:
        self._refill(now, successes * self._policy.per_success)

    def take(self, now: float) -> bool:
        """Take one retry out; False when there is none."""
        self._refill(now, 0.0)
        if self._level < 1.0 - ROUNDING:
            return False
        self._level = max(0.0, self._level - 1.0)
        return True

    def _refill(self, now: float, gain: float) -> None:
        self._level = min(self._policy.size, self._level + (now - self._as_of) * self._policy.per_s + gain)
        self._as_of = now


class RetryBudget:
    """The budgets as one worker process uses them. `key` names a budget, e.g. `llama3.2@localhost:11434`.

    Without Redis each worker has budgets of its own, full at first.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        policy: BudgetPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._policy = policy or BudgetPolicy()
        self._clock = clock
        self._scripts = Scripts(redis)
        self._earned: Counter[str] = Counter()
        self._local: dict[str, Bucket] = {}
        self._away_until = float("-inf")
        self._paying = Rounds("retry-budget", self._pay_in, PAY_EVERY_S, away="retry_budget.not_paid")

    async def start(self) -> None:
        self._paying.start()

    async def stop(self) -> None:
        await self._paying.stop()

    def succeeded(self, key: str) -> None:
        """A call succeeded. Touches nothing but memory."""
        self._earned[key] += 1

    async def take(self, key: str) -> bool:
        """May this call be a retry? Takes it out of the budget. False: ask again in `EMPTY_RETRY_S`."""
        successes = self._earned.pop(key, 0)
        if self._clock() >= self._away_until:
            try:
                return bool((await self._call([(key, successes, True)]))[0])
            except AWAY as exc:
                self._gone(exc)
        return self._take_here(key, successes)

    async def pay(self) -> None:
        """Pay in what was earned. Raises RedisError or OSError when Redis does not answer."""
        earned, self._earned = self._earned, Counter()
        if not earned:
            return
        try:
            await self._call([(key, successes, False) for key, successes in earned.items()])
        except BaseException:
            now = self._clock()
            for key, successes in earned.items():
                if key in self._local:
                    self._local[key].pay(successes, now)
            raise
        self._local.clear()

    def _take_here(self, key: str, successes: int) -> bool:
        now = self._clock()
        bucket = self._local.get(key)
        if bucket is None:
            if len(self._local) >= MAX_BUCKETS:
                self._local.clear()
            bucket = self._local[key] = Bucket(self._policy, now)
        bucket.pay(successes, now)
        return bucket.take(now)

    async def _pay_in(self) -> None:
        try:
            await self.pay()
        except AWAY as exc:
            self._gone(exc)

    async def _call(self, rows: Sequence[tuple[str, int, bool]]) -> Any:
        policy = self._policy
        amounts = [int(amount * 1000) for amount in (policy.size, policy.per_success, policy.per_s)]
        fields = [field for _, successes, take in rows for field in (successes, int(take))]
        async with asyncio.timeout(LIMIT_S):
            return await self._scripts.run(
                "budget", [self._keys.retry_budget(key) for key, _, _ in rows], *amounts, *fields
            )

    def _gone(self, exc: BaseException) -> None:
        if self._clock() >= self._away_until + AWAY_S:
            log.warning("retry_budget.local_only", error=type(exc).__name__, hint="Redis does not answer")
        self._away_until = self._clock() + AWAY_S
