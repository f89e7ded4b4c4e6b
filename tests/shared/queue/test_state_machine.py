"""The real scripts against the model: random operations on a real server, compared after every step.

`ARRIERO_THOROUGH=1` runs 500 examples of 50 steps instead of 150 of 40.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from shared.jobs import MOVES, State
from shared.queue.arrivals import Arrival, packed, template
from shared.queue.keys import Keys
from shared.queue.scripts import Scripts
from tests.shared.queue.clocked import START_US, clock_key, clocked_sources
from tests.shared.queue.model import CLASSES, LIVE, ModelJob, QueueModel

THOROUGH = os.environ.get("ARRIERO_THOROUGH") == "1"
DEPTH_LIMIT = 12
LEASE_MS = 8000
HORIZON_MS = 1000
LINE = "t:llama3.2"
RETENTION_MS = 3_600_000
VERDICTS = ("succeeded", "dead_lettered", "cancelled", "expired", "retried", "released")
PRIORITIES = st.sampled_from(CLASSES)
TENANTS = st.sampled_from(("t1", "t2"))
WORKERS = st.sampled_from(("w1", "w2"))
SOURCES = clocked_sources()
Run = tuple[str, str, int]
"""(job, token, attempt): one run, current or stale."""


def model_of(job_id: str) -> str:
    """The model a job asks for: three of them in turn."""
    return f"m{int(job_id[-3:]) % 3}"


class QueueMachine(RuleBasedStateMachine):
    """Each rule does the same to the scripts and to the model, and compares what they say."""

    url = ""
    jobs = Bundle("jobs")
    runs = Bundle("runs")
    seeds = Bundle("seeds")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keys = Keys("gw")
        self.redis = self.runner.run(self._connect())
        self.scripts = Scripts(self.redis, self.keys, sources=SOURCES)
        self.model = QueueModel(START_US, DEPTH_LIMIT)
        self.ended: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.history: list[Run] = []
        self.made = 0

    async def _connect(self) -> Redis:
        redis: Redis = Redis.from_url(self.url)
        await redis.flushdb()
        await redis.set(clock_key(self.keys), START_US)
        return redis

    def teardown(self) -> None:
        self.runner.run(self.redis.aclose(close_connection_pool=True))
        self.runner.close()

    def run(self, name: str, *args: str | bytes | int) -> Any:
        return self.runner.run(self.scripts.run(name, *args))

    def _enqueue(self, job_id: str, priority: str, tenant: str, fingerprint: str, timeout: int, delay: int) -> None:
        common = ("ttl", RETENTION_MS, "ev", "1", "rt", "g1")
        shared = template(priority, "chat", model_of(job_id), tenant, timeout, delay, LINE, 1, common, ("rq", "fp"))
        values = (job_id, b"payload", "r", fingerprint)
        reply = self.run("enqueue", DEPTH_LIMIT, *packed([Arrival(shared, values)]))
        expected = self.model.enqueue(job_id, priority, tenant, fingerprint, timeout, delay, "g1")
        assert reply[1].decode().split(" ")[0] == expected

    def _running(self) -> list[ModelJob]:
        return [job for job in self.model.jobs.values() if job.state == "running"]

    # -- rules ------------------------------------------------------------------------------------------------------

    @initialize(target=jobs, priorities=st.lists(PRIORITIES, min_size=3, max_size=6))
    def some_jobs(self, priorities: list[str]) -> Any:
        return multiple(*(self.enqueue(priority, "t1", 200_000, 0) for priority in priorities))

    @rule(
        target=jobs,
        priority=PRIORITIES,
        tenant=TENANTS,
        timeout=st.sampled_from((500, 9000, 60_000)),
        delay=st.sampled_from((0, 0, 0, 700, 20_000)),
    )
    def enqueue(self, priority: str, tenant: str, timeout: int, delay: int) -> str:
        self.made += 1
        job_id = f"job_{self.made:03d}"
        self._enqueue(job_id, priority, tenant, "body", timeout, delay)
        return job_id

    @rule(job=jobs, fingerprint=st.sampled_from(("body", "another body")))
    def enqueue_again(self, job: str, fingerprint: str) -> None:
        self._enqueue(job, "normal", "t1", fingerprint, 60_000, 0)

    @rule(target=runs, worker=WORKERS, want=st.integers(1, 4))
    def claim(self, worker: str, want: int) -> Any:
        return self._claim(worker, want)[1]

    @rule(target=seeds, worker=WORKERS, want=st.integers(1, 4))
    def claim_with_a_lost_answer(self, worker: str, want: int) -> str:
        return self._claim(worker, want)[0]

    def _claim(self, worker: str, want: int) -> tuple[str, Any]:
        self.made += 1
        seed = f"{self.made:06d}-"
        expected_wait, expected = self.model.claim(want, seed, LEASE_MS, HORIZON_MS)
        wait, _, *rows = self.run("claim", worker, seed, want, LEASE_MS, HORIZON_MS, b"", "")
        claimed = [(row[0].decode(), row[1].decode(), row[3], row[4]) for row in rows]
        assert (wait, claimed) == (expected_wait, expected)
        fresh = {token for _, token, _, _ in claimed}
        assert len(fresh) == len(claimed) and not fresh & self.tokens, "a token is never used twice"
        self.tokens |= fresh
        runs = [(job, token, attempt) for job, token, attempt, _ in claimed]
        self.history += runs
        return seed, multiple(*runs)

    @rule(seed=seeds)
    def disown(self, seed: str) -> None:
        assert self.run("disown", seed, LEASE_MS) == self.model.disown(seed, LEASE_MS)

    @rule(worker=WORKERS, held=st.lists(runs, min_size=1, max_size=4, unique=True))
    def renew(self, worker: str, held: list[Run]) -> None:
        pairs = [(job, token) for job, token, _ in held]
        fields = [field for pair in pairs for field in pair]
        lost, cancelled = self.run("renew", worker, LEASE_MS, b"beat", 15_000, *fields)
        answer = ([raw.decode() for raw in lost], [raw.decode() for raw in cancelled])
        assert answer == self.model.renew(pairs, LEASE_MS)

    @rule()
    def renew_everything(self) -> None:
        """As a healthy worker does."""
        self.renew("w1", [(job.id, job.token, job.attempts) for job in self._running()])

    @rule()
    def zombies_renew(self) -> None:
        """Every run there ever was reports itself alive."""
        self.renew("w2", self.history[-12:])

    @rule(run=runs, seq=st.integers(1, 3))
    def publish(self, run: Run, seq: int) -> None:
        job, token, attempt = run
        [reply] = self.run("publish", job, token, attempt, seq, b"chunk")
        assert reply.decode() == self.model.publish(job, token, attempt, seq)

    @rule(run=runs, verdict=st.sampled_from(VERDICTS), delay=st.sampled_from((0, 600, 30_000)))
    def settle(self, run: Run, verdict: str, delay: int) -> None:
        job, token, _ = run
        [reply] = self.run("settle", job, token, verdict, b"@backend_fault", b"result", delay, b"")
        assert reply.decode() == self.model.settle(job, token, verdict, "@backend_fault", delay)

    @precondition(lambda self: bool(self._running()))
    @rule(pick=st.integers(0, 99), verdict=st.sampled_from(VERDICTS), delay=st.sampled_from((0, 600, 30_000)))
    def settle_what_runs(self, pick: int, verdict: str, delay: int) -> None:
        running = self._running()
        job = running[pick % len(running)]
        self.settle((job.id, job.token, job.attempts), verdict, delay)

    @precondition(lambda self: bool(self._running()))
    @rule(pick=st.integers(0, 99))
    def cancel_what_runs(self, pick: int) -> None:
        running = self._running()
        self.cancel(running[pick % len(running)].id)

    @precondition(lambda self: bool(self._running()))
    @rule(target=runs, worker=WORKERS)
    def a_worker_dies_and_another_claims(self, worker: str) -> Any:
        self.time_passes(LEASE_MS + 1)
        return self._claim(worker, 4)[1]

    @rule(job=jobs, verdict=st.sampled_from(VERDICTS))
    def settle_with_a_made_up_token(self, job: str, verdict: str) -> None:
        [reply] = self.run("settle", job, "not-a-token", verdict, b"", b"result", 0, b"")
        assert reply.decode() == self.model.settle(job, "not-a-token", verdict, "", 0) == "!"

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        assert self.run("cancel", job).decode() == self.model.cancel(job)

    @rule(job=jobs, after=st.sampled_from(("", "1-0", "1-2", "2-0")))
    def attach(self, job: str, after: str) -> None:
        reply = self.run("attach", job, "g2", f"({after}" if after else "-")
        expected = self.model.attach(job, "g2", after)
        assert ([entry.decode() for entry, _ in reply[1]] if reply else None) == expected

    @rule()
    def sweep(self) -> None:
        self.runner.run(self._let_sweep())
        assert self.run("sweep", 900) == 1
        self.model.sweep()

    async def _let_sweep(self) -> None:
        await self.redis.delete(f"{self.keys.root}sweeping")

    @rule(ms=st.sampled_from((1, 300, 700, 2000, 8001, 20_000)))
    def time_passes(self, ms: int) -> None:
        self.model.now_us += ms * 1000
        self.runner.run(self._set_clock())

    async def _set_clock(self) -> None:
        await self.redis.set(clock_key(self.keys), self.model.now_us)

    # -- invariants -------------------------------------------------------------------------------------------------

    @invariant()
    def what_redis_holds_is_what_the_model_says(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        jobs = list(self.model.jobs.values())
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrange(self.keys.alarms, 0, -1, withscores=True)
        pipe.hgetall(self.keys.counters)
        pipe.hget(self.keys.load, "bytes")
        pipe.hgetall(self.keys.unfinished)
        pipe.hgetall(self.keys.unfinished_models)
        pipe.zrange(self.keys.dead_letters, 0, -1)
        for priority in CLASSES:
            pipe.zrange(self.keys.line(priority, LINE), 0, -1)
        for job in jobs:
            pipe.hgetall(self.keys.record(job.id))
            pipe.exists(self.keys.payload_root + job.id)
        alarms, counters, held, tenants, models, dead, high, normal, low, *rows = await pipe.execute()

        assert {i.decode(): int(at) for i, at in alarms} == {j.id: j.alarm for j in jobs if not j.is_over}
        unfinished = sum(not job.is_over for job in jobs)
        assert int(held or 0) == unfinished * len(b"payload")
        live = Counter(job.tenant.encode() for job in jobs if not job.is_over)
        assert {tenant: int(count) for tenant, count in tenants.items()} == live
        by_model = Counter(model_of(job.id) for job in jobs if not job.is_over)
        assert {name.decode(): int(count) for name, count in models.items()} == by_model
        assert {i.decode() for i in dead} == {job.id for job in jobs if job.state == "dead_lettered"}
        for priority, ids in zip(CLASSES, (high, normal, low), strict=True):
            assert [i.decode() for i in ids] == [job.id for job in self.model.ready(priority)]
        for job, record, has_payload in zip(jobs, rows[::2], rows[1::2], strict=True):
            state = record[b"s"].decode()
            assert state == job.state
            assert int(record.get(b"n", 0)) == job.attempts
            assert int(record.get(b"f", 0)) == job.failures
            assert int(record.get(b"x", 0)) == job.crashes
            assert record.get(b"tok", b"").decode() == job.token
            assert (record.get(b"cx") == b"1") == job.cancel
            assert set(record[b"rt"].decode().split()) == job.watchers
            assert bool(has_payload) == (not job.is_over or job.state == "dead_lettered")
            if job.is_over and state != State.SUCCEEDED:  # what succeeded has no error, whatever was noted before
                assert record.get(b"er", b"").decode() == job.error
            ends = {int(name[1:]): value.split(b"|")[0].decode() for name, value in record.items() if name[:1] == b"z"}
            assert ends == job.outcomes
            assert self.ended.setdefault(job.id, state) == state if job.is_over else job.id not in self.ended
        self._compare_counters({name.decode(): int(value) for name, value in counters.items()})

    def _compare_counters(self, counters: dict[str, int]) -> None:
        states = [job.state for job in self.model.jobs.values()]
        for state in MOVES:
            assert counters.get(state, 0) == states.count(state), state
        totals = {name: value for name, value in counters.items() if name not in set(State) and value}
        assert totals == {name: value for name, value in self.model.totals.items() if value}


def test_the_model_knows_the_same_states() -> None:
    assert {state for state in MOVES if not state.is_terminal} == set(LIVE)


@pytest.mark.timeout(900 if THOROUGH else 60)
@pytest.mark.req("S1-01")
def test_the_scripts_do_what_the_model_says(redis_url: str) -> None:
    QueueMachine.url = redis_url
    try:
        run_state_machine_as_test(
            QueueMachine,
            settings=settings(
                max_examples=500 if THOROUGH else 150,
                stateful_step_count=50 if THOROUGH else 40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        asyncio.run(_forget_clock(redis_url))


async def _forget_clock(url: str) -> None:
    redis = Redis.from_url(url)
    await redis.delete(clock_key(Keys("gw")))
    await redis.aclose(close_connection_pool=True)
