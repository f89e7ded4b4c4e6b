"""The depth row's own program, on a queue that is not deep."""

from __future__ import annotations

from redis import Redis

from shared.queue.keys import Keys
from shared.settings import BaseServiceSettings
from tests.bench.depth_probe import fill, probe


async def test_a_probe_leaves_the_queue_as_deep_as_it_was(redis_url: str) -> None:
    settings = BaseServiceSettings(redis_url=redis_url)
    assert (await fill(settings, 300))["overhead_bytes"] > 0
    seen = await probe(settings, 20)
    assert set(seen) == {"enqueue_p50_ms", "enqueue_p99_ms", "claim_p50_ms", "claim_p99_ms"}
    assert all(0 < value < 60_000 for value in seen.values())
    with Redis.from_url(redis_url) as redis:
        # The job that ran when the probe ended has gone back.
        assert redis.zcard(Keys("gw").alarms) == 300
