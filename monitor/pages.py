"""The monitor's pages: /report, /readings, /alerts, /history."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

from aiohttp import web

from monitor.deliver.message import alert_fields
from monitor.history import FULL_RATE_S, STEP_S, is_full_rate
from monitor.report import as_text, readings, report_fields
from monitor.signals import METRICS
from monitor.watch import Watch
from shared.errors import BadRequest
from shared.pages import Page
from shared.settings import parse_duration_s


class Pages:
    """What can be read of a `Watch`."""

    def __init__(self, watch: Watch, interval_s: float) -> None:
        self._watch = watch
        self._interval_s = interval_s

    def all(self) -> Sequence[Page]:
        handlers = {
            "/report": self.report,
            "/readings": self.readings,
            "/alerts": self.alerts,
            "/history": self.history,
        }
        return [Page(method="GET", path=path, handler=handler) for path, handler in handlers.items()]

    async def report(self, request: web.Request) -> object:
        """All there is to say; `?format=text`, or `Accept: text/plain`, for people."""
        report = self._watch.report()
        if _wants_text(request):
            return web.Response(text=as_text(report))
        return report_fields(report)

    async def readings(self, _: web.Request) -> object:
        return readings(self._watch.snapshot)

    async def alerts(self, _: web.Request) -> object:
        """Active ones (pending or firing), those that are over, and the rules."""
        return {
            "active": [alert_fields(alert) for alert in self._watch.active],
            "recent": [alert_fields(alert) for alert in self._watch.recent],
            "rules": [asdict(rule) for rule in self._watch.rules],
        }

    async def history(self, request: web.Request) -> object:
        """`?metric=` since `?since=` (15m, Unix seconds or RFC 3339; the last hour otherwise).

        Every reading for up to an hour, minimum, mean and maximum by the minute for up to a day.
        """
        metric, now = request.query.get("metric", ""), time.time()
        if metric not in METRICS:
            raise BadRequest(f"`metric` is one of: {', '.join(METRICS)}.", param="metric")
        since = _since(request.query.get("since"), now)
        series = self._watch.history.points(metric, since, now)
        return {
            "metric": metric,
            "resolution_s": self._interval_s if is_full_rate(since, now) else STEP_S,
            "series": [
                {"about": about, "points": [asdict(point) for point in points]} for about, points in series.items()
            ],
        }


def _wants_text(request: web.Request) -> bool:
    wanted = request.query.get("format")
    if wanted not in (None, "json", "text"):
        raise BadRequest("`format` is json or text.", param="format")
    return wanted == "text" if wanted else request.headers.get("Accept", "").startswith("text/plain")


def _since(text: str | None, now: float) -> float:
    """Unix seconds. Raises BadRequest for what is no time."""
    if text is None:
        return now - FULL_RATE_S
    with suppress(ValueError):
        at = float(text)
        if not 0 <= at < math.inf:
            raise BadRequest("`since` is no time before 1970, nor without end.", param="since")
        return at
    try:
        return now - float(parse_duration_s(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadRequest("`since` is a duration such as 15m, Unix seconds, or RFC 3339.", param="since") from None
