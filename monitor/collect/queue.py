"""The queue: its depth, its workers, and what ended in it of late."""

from __future__ import annotations

import time
from collections.abc import Mapping

from monitor.readings import QueueReading
from shared.jobs import State
from shared.queue.client import QueueClient
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
        ends = {str(state): stats.counters.get(state, 0) for state in ENDS}
        compared = self._window.compare(time.monotonic(), ends)
        if compared is None:
            return QueueReading(stats=stats, unfinished_by_model=unfinished)
        window_s, before = compared
        # A Redis that came back empty counts from 0 again.
        ended = {state: max(0, total - before[state]) for state, total in ends.items()}
        return QueueReading(stats=stats, window_s=window_s, ended=ended, unfinished_by_model=unfinished)
