"""The figures, and the bars they are held to. This table is the only place where a bar is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OFFERED_TOKENS_PER_S = 3200.0
"""Sixteen streams of 200 tokens/s."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Limit:
    """`factor` times the same figure of peer `of`, or `factor` itself."""

    factor: float
    of: str = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Figure:
    """One line of the report: a figure of one scenario, and what it must and should reach.

    Of several limits in `must` each has to hold; with `either` one is enough.
    """

    row: str
    label: str
    scenario: str
    key: str
    unit: str
    better: Literal["higher", "lower"]
    must: tuple[Limit, ...] = ()
    aim: tuple[Limit, ...] = ()
    either: bool = False
    subject: str = "arriero"


def _times(factor: float, peer: str) -> tuple[Limit, ...]:
    return (Limit(factor=factor, of=peer),)


def _plain(value: float) -> tuple[Limit, ...]:
    return (Limit(factor=value),)


FIGURES: tuple[Figure, ...] = (
    Figure(
        row="Q1", label="no-op jobs drained by one worker process", scenario="throughput", key="drain_per_s",
        unit="jobs/s", better="higher", must=_times(5, "arq"), aim=_times(1, "bullmq"),
    ),
    Figure(
        row="Q2", label="round trip p50, one at a time", scenario="roundtrip", key="one_p50_ms", unit="ms",
        better="lower", must=_times(1, "bullmq"), aim=_times(0.6, "bullmq"),
    ),
    Figure(
        row="Q2", label="round trip p99, one at a time", scenario="roundtrip", key="one_p99_ms", unit="ms",
        better="lower",
    ),
    Figure(
        row="Q3", label="round trips, 32 at once", scenario="roundtrip", key="many_per_s", unit="1/s",
        better="higher", must=_times(1.5, "bullmq"), aim=_times(3, "bullmq"),
    ),
    Figure(
        row="Q4", label="enqueued from one process, 50 callers", scenario="throughput", key="enqueue_per_s",
        unit="jobs/s", better="higher", must=_times(3, "arq"), aim=_times(1.2, "bullmq"),
    ),
    Figure(
        row="Q5", label="idle worker: Redis calls", scenario="idle", key="calls_per_s", unit="1/s",
        better="lower", must=_plain(10), aim=_plain(5),
    ),
    Figure(
        row="Q5", label="idle worker: CPU", scenario="idle", key="cpu_percent", unit="%",
        better="lower", must=_plain(1), aim=_plain(0.5),
    ),
    Figure(
        row="G1", label="chat p50, 1 client", scenario="chat", key="one_p50_ms", unit="ms",
        better="lower", must=_times(0.3, "litellm"), aim=_times(1.5, "portkey"),
    ),
    Figure(
        row="G1", label="chat p99, 1 client", scenario="chat", key="one_p99_ms", unit="ms",
        better="lower", must=_times(0.3, "litellm"), aim=_times(0.3, "portkey"),
    ),
    Figure(
        row="G2", label="chats, 32 clients", scenario="chat", key="many_per_s", unit="req/s", better="higher",
        must=(*_times(15, "litellm"), *_times(1.5, "portkey")), aim=_times(0.5, "bare-proxy"),
    ),
    Figure(
        row="G3", label="first chunk p50, 16 streams at 200 tokens/s", scenario="stream", key="first_p50_ms", unit="ms",
        better="lower", must=_plain(8), aim=_plain(4),
    ),
    Figure(
        row="G3", label="first chunk p99, the same", scenario="stream", key="first_p99_ms", unit="ms",
        better="lower", must=_plain(15), aim=_plain(7),
    ),
    Figure(
        row="G3", label=f"tokens, the same ({OFFERED_TOKENS_PER_S:,.0f} offered)", scenario="stream",
        key="paced_tokens_per_s", unit="tokens/s", better="higher",
        must=_plain(0.98 * OFFERED_TOKENS_PER_S), aim=_plain(0.99 * OFFERED_TOKENS_PER_S),
    ),
    Figure(
        row="G4", label="tokens streamed flat out, 16 clients", scenario="flat", key="tokens_per_s", unit="tokens/s",
        better="higher", must=_times(20, "litellm"), aim=_times(60, "litellm"),
    ),
    Figure(
        row="G5", label="POST /v1/jobs accepted, 32 clients", scenario="intake", key="per_s", unit="req/s",
        better="higher", either=True, must=(*_times(4, "bare-arq"), *_times(0.5, "bare-parse")),
        aim=_times(0.7, "bare-parse"),
    ),
    *(
        Figure(
            row="G6", label=f"with AOF everysec: {label}", scenario="append-only", key=key, unit=unit, better="higher",
            must=_times(0.85, "arriero"), aim=_times(0.95, "arriero"), subject="arriero-aof",
        )
        for label, key, unit in (
            ("jobs drained", "drain_per_s", "jobs/s"),
            ("jobs enqueued", "enqueue_per_s", "jobs/s"),
            ("jobs accepted", "intake_per_s", "req/s"),
        )
    ),
    *(
        Figure(
            row="M1", label=f"{name} memory after 200,000 jobs", scenario="memory", key=f"{name}_mb", unit="MB",
            better="lower", must=_plain(150), aim=_plain(100),
        )
        for name in ("gateway", "worker")
    ),
    *(
        Figure(row="M1", label=f"{name} memory, growth over the last half", scenario="memory", key=f"{name}_growth_mb",
               unit="MB", better="lower", must=_plain(5))
        for name in ("gateway", "worker")
    ),
)  # fmt: skip
ROWS: tuple[str, ...] = tuple(dict.fromkeys(figure.row for figure in FIGURES))
SLOW_ROWS = frozenset({"G6", "M1"})
"""Left out unless asked for by name or with `--rows all`."""
FULL_RUNS = 5

Verdict = Literal["holds", "missed", "no figure"]


def bound(limit: Limit, medians: Mapping[str, float]) -> float | None:
    """The value a limit asks for, given the peers' medians of the same figure; None without that peer."""
    if not limit.of:
        return limit.factor
    peer = medians.get(limit.of)
    return None if peer is None else limit.factor * peer


def judge(figure: Figure, limits: tuple[Limit, ...], medians: Mapping[str, float]) -> Verdict:
    """Whether the subject's median keeps the limits. A limit whose peer was not measured decides nothing on its own."""
    own = medians.get(figure.subject)
    bounds = [value for limit in limits if (value := bound(limit, medians)) is not None]
    if own is None or not bounds:
        return "no figure"
    kept = [own >= value if figure.better == "higher" else own <= value for value in bounds]
    if figure.either:
        return "holds" if any(kept) else "missed" if len(kept) == len(limits) else "no figure"
    if not all(kept):
        return "missed"
    return "holds" if len(kept) == len(limits) else "no figure"


def limit_text(figure: Figure, limits: tuple[Limit, ...]) -> str:
    """A bar in words, e.g. `>= 5 x arq`."""
    sign = ">=" if figure.better == "higher" else "<="
    texts = [f"{sign} {limit.factor:g} x {limit.of}" if limit.of else f"{sign} {limit.factor:,.4g}" for limit in limits]
    return (" or " if figure.either else " and ").join(texts)
