"""From this gateway's one inbox stream to everybody who waits here: requests, SSE streams, long polls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import JobLost, JobNotFound, QueueUnavailable
from shared.jobs import JobRecord, State
from shared.queue.client import QueueClient
from shared.queue.connection import REDIS_GONE
from shared.wire.codec import decode_deltas, decode_error, decode_result
from shared.wire.events import Chunk, Ended, Event, Started

log = structlog.get_logger()

INBOX_TTL_S = 60
TICK_S = 1.0
SWEEP_S = 2.0
READ_COUNT = 500

Fields = dict[bytes, bytes]


class Subscription:
    """What one client gets to see of one job, in order and without repeats.

    Close it (or leave its `with`) when done. `follows`: a start alone is news; who waits for an answer hears of it with
    what comes next, or when the time is up.
    """

    def __init__(self, replies: Replies, job_id: str, *, follows: bool = True) -> None:
        self.job_id = job_id
        self.opened_at = time.monotonic()
        self._replies = replies
        self._follows = follows
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._position = (0, -1)
        self._held: list[Event] | None = None
        self._over = False

    def feed(self, event: Event) -> None:
        """Append an event, unless this client has it already or the job is over."""
        if self._held is not None:
            self._held.append(event)
            return
        if self._over:
            return
        if isinstance(event, Ended):
            self._over = True
        else:
            position = (event.attempt, event.seq if isinstance(event, Chunk) else 0)
            if position <= self._position:
                return
            if self._misses_something(position):
                self._replies.catch_up(self)
                return
            self._position = position
        self._events.append(event)
        if self._waiter is not None and (self._follows or not isinstance(event, Started)):
            _wake(self._waiter)

    def _misses_something(self, position: tuple[int, int]) -> bool:
        attempt, seq = position
        if not self._position[0]:
            return seq > 1  # an attempt announces itself with 0; who joins at its first chunk has missed nothing
        return seq > (self._position[1] + 1 if attempt == self._position[0] else 0)

    def hold(self) -> None:
        """Keep live events aside until `release`, while older ones are read from the log."""
        self._held = self._held if self._held is not None else []

    def release(self, older: list[Event]) -> None:
        """The log's events first, then the live ones that were held; each only once."""
        held, self._held = self._held or [], None
        for event in older:
            if not isinstance(event, Ended):
                position = (event.attempt, event.seq if isinstance(event, Chunk) else 0)
                if position > self._position:
                    self._position = (position[0], position[1] - 1)  # the log is whole: no gap to look for
            self.feed(event)
        for event in held:
            self.feed(event)

    def start_after(self, event_id: str) -> None:
        """The client has everything up to and including this event."""
        attempt, _, seq = event_id.partition("-")
        self._position = (int(attempt), int(seq or 0))

    @property
    def position(self) -> str:
        """Id of the last event seen; empty before the first."""
        attempt, seq = self._position
        return f"{attempt}-{seq}" if seq >= 0 and attempt else ""

    @property
    def is_over(self) -> bool:
        return self._over

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None when the time is up."""
        if not self._events:
            loop = asyncio.get_running_loop()
            waiter = self._waiter = loop.create_future()
            # Not asyncio.timeout: with it a wait costs twice as much, and each event of a stream is waited for.
            timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
            if not self._events:
                return None
        return self._events.popleft()

    def drain(self) -> list[Event]:
        """Every event that is there already, without waiting."""
        events = list(self._events)
        self._events.clear()
        return events

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self.next()
            if event is not None:
                yield event
            if isinstance(event, Ended):
                return

    async def ended(self, timeout_s: float | None = None) -> Ended | None:
        """The job's end, skipping what comes before it; None when the time is up first."""
        until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            event = await self.next(None if timeout_s is None else until - time.monotonic())
            if event is None or isinstance(event, Ended):
                return event

    def close(self) -> None:
        self._replies.drop(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Replies:
    """The reader of one gateway's inbox. `blocking` is a client whose socket timeout is longer than a second."""

    def __init__(self, queue: QueueClient, gateway_id: str, *, blocking: Redis | None = None) -> None:
        self.gateway_id = gateway_id
        self._queue = queue
        self._redis = blocking or queue.redis
        self._inbox = queue.keys.inbox(gateway_id)
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._last_id = "0"
        self._trim = False
        self._tasks: list[asyncio.Task[None]] = []
        self._chores: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin reading. Redis may come later; until then waiting clients wait."""
        if not self._tasks:
            with contextlib.suppress(*REDIS_GONE):
                await self._keep_inbox()
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._tick())]

    async def stop(self) -> None:
        for task in [*self._tasks, *self._chores]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._chores, return_exceptions=True)
        self._tasks = []
        with contextlib.suppress(RedisError, OSError):
            await self._redis.delete(self._inbox)

    def expect(self, job_id: str, *, follows: bool = False) -> Subscription:
        """Wait for a job that is about to be enqueued with this gateway as its `reply_to`."""
        subscription = Subscription(self, job_id, follows=follows)
        self._subscriptions.setdefault(job_id, []).append(subscription)
        return subscription

    async def attach(self, job_id: str, after: str = "") -> Subscription | None:
        """Join any job: first what its log holds after event `after`, then what comes.

        None when there is no such job.
        """
        subscription = self.expect(job_id, follows=True)
        try:
            subscription.hold()
            if after:
                subscription.start_after(after)
            await self._replay(subscription)
        except JobNotFound:
            subscription.close()
            return None
        except BaseException:
            subscription.close()
            raise
        return subscription

    async def _replay(self, subscription: Subscription) -> None:
        attached = await self._queue.attach(subscription.job_id, self.gateway_id, subscription.position)
        older = [_logged(event_id, fields) for event_id, fields in attached.events]
        if attached.record.state.is_terminal:
            older.append(_end_of(attached.record))
        subscription.release(older)

    def catch_up(self, subscription: Subscription) -> None:
        """Fill a gap from the job's log: an inbox entry was lost."""
        subscription.hold()
        chore = asyncio.create_task(self._replay_quietly(subscription))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _replay_quietly(self, subscription: Subscription) -> None:
        try:
            await self._replay(subscription)
        except Exception as exc:  # whatever it is, the client must not stay on hold; the sweep comes by again
            log.warning("replies.gap_not_filled", job_id=subscription.job_id, error=type(exc).__name__)
            subscription.release([])

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription; twice is harmless."""
        waiting = self._subscriptions.get(subscription.job_id, [])
        if subscription in waiting:
            waiting.remove(subscription)
        if not waiting:
            self._subscriptions.pop(subscription.job_id, None)

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._redis.xread({self._inbox: self._last_id}, count=READ_COUNT, block=1000)
            except REDIS_GONE:
                await asyncio.sleep(0.1)
                continue
            except RedisError:
                log.exception("replies.read_failed")
                await asyncio.sleep(1)
                continue
            for _, entries in answer:
                for entry_id, fields in entries:
                    self._last_id = entry_id.decode()
                    await self._deliver(fields)
                self._trim = True

    async def _deliver(self, fields: Fields) -> None:
        job_id = fields.get(b"j", b"").decode()
        waiting = self._subscriptions.get(job_id)
        if not waiting:
            return
        try:
            event = await self._decode(job_id, fields)
        except Exception:  # one bad entry must not stop the reader; the sweep reads the record instead
            log.exception("replies.bad_entry", job_id=job_id)
            return
        if event is not None:
            for subscription in list(waiting):
                subscription.feed(event)

    async def _decode(self, job_id: str, fields: Fields) -> Event | None:
        kind = fields[b"t"]
        if kind == b"c":
            return Chunk(attempt=int(fields[b"a"]), seq=int(fields[b"q"]), deltas=decode_deltas(fields[b"d"]))
        if kind == b"s":
            return Started(attempt=int(fields[b"a"]))
        state = State(fields[b"s"].decode())
        stored = fields[b"d"]
        if state is State.SUCCEEDED and not stored:  # too large for the inbox
            chore = asyncio.create_task(self._fetch_end(job_id))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)
            return None
        value = decode_result(stored).r if state is State.SUCCEEDED else None
        return Ended(
            state=state,
            result=value if isinstance(value, bytes) else None,
            error=decode_error(fields[b"er"]) if state is not State.SUCCEEDED else None,
            attempts=int(fields[b"a"]),
            queue_ms=int(fields[b"qm"]),
            run_ms=int(fields[b"rm"]),
        )

    async def _fetch_end(self, job_id: str) -> None:
        with contextlib.suppress(QueueUnavailable):  # the sweep comes by again
            job = await self._queue.get(job_id)
            if job is not None and job.state.is_terminal:
                for subscription in list(self._subscriptions.get(job_id, [])):
                    subscription.feed(_end_of(job))

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        next_sweep = loop.time() + SWEEP_S
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._keep_inbox()
                await self._queue.sweep()
                if loop.time() >= next_sweep:
                    next_sweep = loop.time() + SWEEP_S
                    await self._sweep_waiting()
            except (*REDIS_GONE, QueueUnavailable):
                continue
            except RedisError:
                log.exception("replies.tick_failed")

    async def _keep_inbox(self) -> None:
        if self._trim:
            self._trim = False
            await self._redis.xtrim(self._inbox, minid=self._last_id, approximate=False)
        if not await self._redis.expire(self._inbox, INBOX_TTL_S):
            await self._redis.xadd(self._inbox, {"hello": "1"})
            await self._redis.expire(self._inbox, INBOX_TTL_S)

    async def _sweep_waiting(self) -> None:
        """Read the records of jobs waited for longer than a sweep: a lost inbox entry must not cost the answer."""
        now = time.monotonic()
        old = [
            job_id
            for job_id, waiting in self._subscriptions.items()
            if any(now - s.opened_at > SWEEP_S and not s.is_over for s in waiting)
        ]
        for start in range(0, len(old), READ_COUNT):
            batch = old[start : start + READ_COUNT]
            pipe = self._queue.redis.pipeline(transaction=False)
            for job_id in batch:
                pipe.hget(self._queue.keys.record(job_id), "s")
            for job_id, state in zip(batch, await pipe.execute(), strict=True):
                if state is None:
                    self._vanished(job_id)
                elif State(state.decode()).is_terminal:
                    # Through the log, because chunks may have been lost with the end.
                    for subscription in list(self._subscriptions.get(job_id, [])):
                        self.catch_up(subscription)

    def _vanished(self, job_id: str) -> None:
        """Redis no longer knows the job: it was restarted without its data. Say so rather than wait for ever."""
        for subscription in list(self._subscriptions.get(job_id, [])):
            subscription.feed(Ended(state=State.EXPIRED, error=JobLost().record()))


def _logged(event_id: str, fields: Fields) -> Event:
    attempt, _, seq = event_id.partition("-")
    if fields[b"t"] == b"s":
        return Started(attempt=int(attempt))
    return Chunk(attempt=int(attempt), seq=int(seq), deltas=decode_deltas(fields[b"d"]))


def _end_of(job: JobRecord) -> Ended:
    started, ended = job.started_at or job.created_at, job.ended_at or job.updated_at
    return Ended(
        state=job.state,
        result=job.result,
        error=job.error,
        attempts=len(job.attempts),
        queue_ms=round((started - job.created_at) * 1000),
        run_ms=round((ended - started) * 1000),
    )
