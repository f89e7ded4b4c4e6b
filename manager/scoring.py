"""How well a model serves: 0 to 100, with the parts it is made of. Pure.

| part         | weight | full marks                           | none                                 |
|--------------|--------|--------------------------------------|--------------------------------------|
| availability | 30     | every host that should have it can serve it | no host can                   |
| errors       | 30     | no recent call failed                | half of them failed                  |
| latency      | 20     | recent p95 up to 1.5 times its usual | 6 times its usual, or more           |
| load         | 10     | loads take up to 5 s                 | a minute or more                     |
| recency      | 10     | used within a day                    | unused for `stale_after_s`           |

A part that nothing is known about is left out, and its weight is shared by the others. Failures that are the caller's,
or say only that a host is full, do not count (`shared.usage.faults`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.usage.figures import UNUSED, ModelUsage, OperationUsage

WEIGHTS = {"availability": 30.0, "errors": 30.0, "latency": 20.0, "load": 10.0, "recency": 10.0}
FEW_CALLS = 5
"""One failure of one call is no rate: below so many calls the rate is of so many."""
ENOUGH_RECENT, ENOUGH_USUAL = 10, 30
"""Calls without which two percentiles are not compared."""
ERRORS_NONE = 0.5
LATENCY_FULL, LATENCY_NONE = 1.5, 6.0
LOAD_FULL_S, LOAD_NONE_S = 5.0, 60.0
RECENCY_FULL_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one model. `recent` is the last while, `usual` all that came before it, both over all hosts.

    `hosts` have it installed, as last seen; `serving` of them answer now and have no open circuit for it.
    `unused_s`: seconds since its last use; None: never used.
    """

    hosts: int
    serving: int
    recent: ModelUsage | None = None
    usual: ModelUsage | None = None
    unused_s: float | None = None
    stale_after_s: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a score. `value` is 0 to 1, None where nothing is known; `points` is what it adds to the score."""

    name: str
    weight: float
    value: float | None
    points: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthScore:
    """`score` is 0 to 100, the sum of the parts' points."""

    score: float
    parts: tuple[Part, ...] = field(default=())


def health_score(evidence: Evidence) -> HealthScore:
    """The table above."""
    values = {
        "availability": _availability(evidence),
        "errors": _errors(evidence.recent),
        "latency": _latency(evidence.recent, evidence.usual),
        "load": _load(evidence.recent, evidence.usual),
        "recency": _recency(evidence),
    }
    known = sum(WEIGHTS[name] for name, (value, _) in values.items() if value is not None)
    parts = tuple(
        Part(
            name=name,
            weight=WEIGHTS[name],
            value=None if value is None else round(value, 4),
            points=0.0 if value is None else round(100 * value * WEIGHTS[name] / known, 1),
            detail=detail,
        )
        for name, (value, detail) in values.items()
    )
    return HealthScore(score=round(min(100.0, sum(part.points for part in parts)), 1), parts=parts)


Verdict = tuple[float | None, str]


def _availability(evidence: Evidence) -> Verdict:
    if not evidence.hosts:
        return 0.0, "installed nowhere"
    return evidence.serving / evidence.hosts, f"{evidence.serving} of {evidence.hosts} hosts can serve it"


def _errors(recent: ModelUsage | None) -> Verdict:
    total = recent.total if recent is not None else UNUSED
    if not total.calls:
        return None, "no recent calls"
    rate = total.faulted / max(FEW_CALLS, total.calls)
    others = total.failed - total.faulted
    uncounted = f", {others} more for reasons that are not its own" if others else ""
    return max(0.0, 1.0 - rate / ERRORS_NONE), f"{total.faulted} of {total.calls} recent calls failed{uncounted}"


def _latency(recent: ModelUsage | None, usual: ModelUsage | None) -> Verdict:
    """Each operation against its own past, weighted by its recent calls: an embedding is no chat."""
    compared = [] if recent is None or usual is None else list(_ratios(recent, usual))
    if not compared:
        return None, "too few calls to compare"
    calls = sum(count for _, count in compared)
    ratio = math.exp(sum(math.log(ratio) * count for ratio, count in compared) / calls)
    return _fall(ratio, LATENCY_FULL, LATENCY_NONE), f"p95 is {ratio:.1f} times its usual"


def _ratios(recent: ModelUsage, usual: ModelUsage) -> Iterable[tuple[float, int]]:
    for kind, now in recent.operations.items():
        before: OperationUsage = usual.operations.get(kind, UNUSED)
        if now.latency.count >= ENOUGH_RECENT and before.latency.count >= ENOUGH_USUAL:
            p95, p95_before = now.latency.percentile_s(0.95), before.latency.percentile_s(0.95)
            if p95 and p95_before:
                yield p95 / p95_before, now.calls


def _load(recent: ModelUsage | None, usual: ModelUsage | None) -> Verdict:
    """Loads are rare, so where no recent one is known an older one is good enough."""
    for usage in (recent, usual):
        if usage is not None and usage.loads:
            mean_s = usage.load_seconds / usage.loads
            return _fall(mean_s, LOAD_FULL_S, LOAD_NONE_S), f"a load takes {mean_s:.1f} s"
    return None, "no load seen"


def _recency(evidence: Evidence) -> Verdict:
    if evidence.unused_s is None:
        return None, "never used"
    stale_s = max(RECENCY_FULL_S * 2, evidence.stale_after_s)
    days = evidence.unused_s / 86_400
    return _fall(evidence.unused_s, RECENCY_FULL_S, stale_s), f"last used {days:.1f} days ago"


def _fall(value: float, full: float, none: float) -> float:
    """1 up to `full`, 0 from `none` on; between them each doubling costs the same."""
    if value <= full:
        return 1.0
    return max(0.0, 1.0 - math.log(value / full) / math.log(none / full))
