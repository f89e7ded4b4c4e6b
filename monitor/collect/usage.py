"""What models were used for, by the figures that workers add up: in all, and within the last while."""

from __future__ import annotations

import time
from dataclasses import dataclass

from monitor.readings import ModelReading
from shared.queue.client import ANSWER_WITHIN_S
from shared.queue.connection import within
from shared.usage.figures import ModelUsage, by_model, difference
from shared.usage.reader import UsageReader
from shared.usage.window import Window


@dataclass(frozen=True, slots=True)
class UsageReading:
    """`totals` by model and host; the rest is about the window, `models` over all hosts."""

    totals: list[ModelUsage]
    models: list[ModelReading]
    loading_ratio: float | None = None


class UsageCollector:
    """Raises QueueUnavailable when Redis does not answer."""

    def __init__(self, reader: UsageReader, window_s: float) -> None:
        self._reader = reader
        self._window: Window[list[ModelUsage]] = Window(window_s)

    async def read(self) -> UsageReading:
        totals = await within(ANSWER_WITHIN_S, self._reader.read)
        compared = self._window.compare(time.monotonic(), totals)
        if compared is None:
            return UsageReading(totals, [])
        window_s, before = compared
        lately = by_model(difference(totals, before))
        models = [
            ModelReading(model=model, operation=operation, window_s=window_s, usage=figures)
            for model, usage in sorted(lately.items())
            for operation, figures in sorted(usage.operations.items())
            if figures.calls
        ]
        busy_s = sum(usage.total.seconds_total for usage in lately.values())
        loading_s = sum(usage.load_seconds for usage in lately.values())
        return UsageReading(totals, models, loading_s / busy_s if busy_s else None)
