"""When an alert fires and when it is over. Pure: rules and numbers in, alerts and what changed out.

    (nothing) --threshold passed--> PENDING --passed for `for_s` without a break--> FIRING
    PENDING   --threshold not passed--> (nothing)
    FIRING    --below `clear_at` for `clear_for_s` without a break--> RESOLVED, then gone

Two thresholds and two durations, so that a value that trembles around the limit makes one alert, not many. What has no
value although its collector did its work is well: nobody asks for that model any more, that GPU was taken out. When the
collector itself failed, nothing is known: that ends a PENDING, and leaves a FIRING as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Place(StrEnum):
    """Whose trouble it is."""

    HOST = "host"
    """This monitor's machine: each monitor tells of its own."""
    FLEET = "fleet"
    """Everyone's: all monitors see the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Fires when `metric` is at least `threshold` for `for_s` seconds, ends when it is below `clear_at`."""

    name: str
    metric: str
    source: str
    """The collector whose failure leaves the metric unknown."""
    threshold: float
    clear_at: float
    for_s: float
    clear_for_s: float
    severity: Severity
    place: Place
    summary: str
    """What is the matter, in a few words; `{about}`, `{value}` and `{threshold}` are filled in, with their unit. While
    the value is below the threshold, `{threshold}` names `clear_at` as well."""
    unit: str = ""
    """As in `UNITS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule about one thing. Times are Unix seconds."""

    rule: Rule
    about: str
    state: AlertState
    value: float
    """As last known."""
    since: float
    """When the threshold was first passed."""
    fired_at: float | None = None
    resolved_at: float | None = None
    well_since: float | None = None
    """While FIRING: since when it has been below `clear_at`."""

    @property
    def summary(self) -> str:
        show, rule = UNITS[self.rule.unit], self.rule
        threshold = show(rule.threshold)
        if self.state is AlertState.FIRING and self.value < rule.threshold:
            threshold += f", over below {show(rule.clear_at)}"
        return rule.summary.format(about=self.about, value=show(self.value), threshold=threshold)


def _percent(ratio: float) -> str:
    """Cut, not rounded: what is below a threshold must not read as if it had reached it."""
    return f"{math.floor(ratio * 1000 + 1e-6) / 10:g}%"  # a little more, since 0.29 is not quite 0.29


def _circuit(value: float) -> str:
    return "open" if value >= 1 else "half open" if value > 0 else "closed"


UNITS: Mapping[str, Callable[[float], str]] = {
    "": "{:g}".format,
    "ratio": _percent,
    "s": "{:.3g} s".format,
    "celsius": "{:.0f} °C".format,
    "circuit": _circuit,
}
Key = tuple[str, str]
"""(rule, about)."""
Book = Mapping[Key, Alert]
"""Alerts that are pending or firing."""


def evaluate(
    book: Book, rules: Iterable[Rule], values: Mapping[tuple[str, str], float], unread: Collection[str], now: float
) -> tuple[Book, Sequence[Alert]]:
    """The alerts after one look at the signals `values`, and those that began to fire or were resolved by it.

    `unread`: collectors that failed this time.
    """
    after: dict[Key, Alert] = {}
    changed: list[Alert] = []
    for rule in rules:
        seen = {about: value for (metric, about), value in values.items() if metric == rule.metric}
        known = [about for name, about in book if name == rule.name]
        for about in sorted({*seen, *known}):
            before = book.get((rule.name, about))
            if about not in seen and rule.source in unread:
                alert = unknown(before)
            else:
                alert = step(before, rule, about, seen.get(about), now)
            if alert is None:
                continue
            if alert.state is not AlertState.RESOLVED:
                after[rule.name, about] = alert
            if alert.state is not AlertState.PENDING and (before is None or before.state is not alert.state):
                changed.append(alert)
    return after, changed


def unknown(before: Alert | None) -> Alert | None:
    """One alert after a look that told nothing about it."""
    return before if before is not None and before.state is AlertState.FIRING else None


def step(before: Alert | None, rule: Rule, about: str, value: float | None, now: float) -> Alert | None:
    """One alert after one look; None for no alert. `value` None: what it was about is gone."""
    if before is None or before.state is AlertState.PENDING:
        if value is None or value < rule.threshold:
            return None
        since = now if before is None else before.since
        ripe = now - since >= rule.for_s
        return Alert(
            rule=rule,
            about=about,
            state=AlertState.FIRING if ripe else AlertState.PENDING,
            value=value,
            since=since,
            fired_at=now if ripe else None,
        )
    still = before if value is None else replace(before, value=value)
    if value is not None and value >= rule.clear_at:
        return replace(still, well_since=None)
    well_since = now if before.well_since is None else before.well_since
    if now - well_since < rule.clear_for_s:
        return replace(still, well_since=well_since)
    return replace(still, well_since=well_since, state=AlertState.RESOLVED, resolved_at=now)
