"""The queue: its depth, its workers, and what ended in it of late."""

from __future__ import annotations

import time
from collections.abc import Mapping

from monitor.readings import QueueReading
from shared.jobs import State
from shared.queue.client import ANSWER_WITHIN_S, QueueClient
from shared.queue.connection import within
from shared.usage.window import Window

ENDS = tuple(state for state in State if state.is_terminal)


class QueueCollector:
    """Raises QueueUnavailable when Redis does not answer."""

    def __init__(self, queue: QueueClient, window_s: float) -> None:
        self._queue = queue
        self._window: Window[Mapping[str, int]] = Window(window_s)

    async def read(self) -> QueueReading:
        stats = await self._queue.stats()
        unfinished = await self._queue.unfinished_by_model()
        memory = await within(ANSWER_WITHIN_S, lambda: self._queue.redis.info("memory"))
        ends = {str(state): stats.counters.get(state, 0) for state in ENDS}
        compared = self._window.compare(time.monotonic(), ends)
        window_s, before = compared if compared is not None else (0.0, ends)
        return QueueReading(
            stats=stats,
            window_s=window_s,
            # A Redis that came back empty counts from 0 again.
            ended={state: max(0, total - before[state]) for state, total in ends.items()} if window_s else {},
            unfinished_by_model=unfinished,
            redis_limit_bytes=memory["maxmemory"],
            eviction_policy=memory["maxmemory_policy"],
        )
