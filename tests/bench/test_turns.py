"""Turn-taking in slices: who goes when, and what a side's slices add up to."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.queue.keys import Keys
from tests.bench.processes import Children
from tests.bench.queue_turns import steps
from tests.bench.redis_server import running_redis
from tests.bench.turns import Slice, in_turns, rate


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        ([Slice(count=100, took_s=2.0)], 50.0),
        # Equal jobs: a slice that took three times as long weighs three times as much.
        ([Slice(count=100, took_s=1.0), Slice(count=100, took_s=3.0)], 50.0),
        # Equal time: a stalled slice counts, which their median would leave out.
        ([Slice(count=100, took_s=1.0), Slice(count=10, took_s=1.0), Slice(count=100, took_s=1.0)], 70.0),
    ],
)
def test_a_rate_is_all_that_was_done_over_all_the_time_it_took(slices: list[Slice], expected: float) -> None:
    assert rate(slices) == pytest.approx(expected)


def test_sides_take_each_step_together_and_go_first_by_turns() -> None:
    taken: list[str] = []

    def step(name: str, side: str) -> Slice:
        taken.append(name + side)
        return Slice(count=1, took_s=1.0)

    sides = {"plain": "A", "file": "B"}
    figures = in_turns(sides, 2, {key: partial(step, key) for key in ("fill", "run")})
    assert taken == ["fillA", "fillB", "runA", "runB", "fillB", "fillA", "runB", "runA"]
    assert figures == {"plain": {"fill": 1.0, "run": 1.0}, "file": {"fill": 1.0, "run": 1.0}}


def test_a_machine_that_grows_slower_favours_nobody() -> None:
    slice_s = count(1.0, 0.1)
    figures = in_turns({"a": 0, "b": 1}, 4, {"k": lambda _: Slice(count=100, took_s=next(slice_s))})
    assert figures["a"]["k"] == pytest.approx(figures["b"]["k"])


@pytest.mark.parametrize("append_only", [True, False])
def test_a_server_that_was_synced_goes_on_as_before(tmp_path: Path, append_only: bool) -> None:
    with Children(tmp_path) as children, running_redis(children, tmp_path, append_only=append_only) as server:
        server.client.set("key", "value")
        server.sync()
        assert server.client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert server.client.get("key") == "value"


def test_a_server_takes_its_directory_with_it(tmp_path: Path) -> None:
    with Children(tmp_path) as children, running_redis(children, tmp_path, append_only=True) as server:
        directories = list(tmp_path.glob("redis-*/appendonlydir"))
        assert len(directories) == 1
    assert not directories[0].exists()
    with Redis.from_url(server.url) as redis, pytest.raises(RedisConnectionError):
        redis.ping()


def test_one_process_fills_and_drains_two_servers(tmp_path: Path) -> None:
    with Children(tmp_path) as children, ExitStack() as stack:
        servers = {
            kind: stack.enter_context(running_redis(children, tmp_path, append_only=kind == "file"))
            for kind in ("file", "plain")
        }
        figures = in_turns(servers, 2, steps("drain", 20))
        for kind, server in servers.items():
            assert set(figures[kind]) == {"enqueue_per_s", "drain_per_s"}
            assert min(figures[kind].values()) > 0
            # Every job has ended: none has an alarm left.
            assert server.client.zcard(Keys("gw").alarms) == 0
