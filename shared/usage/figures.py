"""The figures and what can be read from them: rates, percentiles, the difference of two readings. Pure.

All figures are totals since recording began; who wants a rate takes the difference of two readings.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.telemetry.metrics import LATENCY_BUCKETS_S
from shared.usage.faults import is_fault

BUCKETS = len(LATENCY_BUCKETS_S) + 1


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many took how long. `counts[i]` are those up to `LATENCY_BUCKETS_S[i]` seconds, the last those above all."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    total_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_s(self) -> float | None:
        """None without figures."""
        return self.total_s / self.count if self.count else None

    def percentile_s(self, share: float) -> float | None:
        """Seconds that `share` (0 to 1) of them did not exceed, straight lines within a bucket; None without figures.

        What lies above the last bound is given as that bound.
        """
        rank, below = share * self.count, 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                if index == len(LATENCY_BUCKETS_S):
                    return LATENCY_BUCKETS_S[-1]
                low = LATENCY_BUCKETS_S[index - 1] if index else 0.0
                return low + (LATENCY_BUCKETS_S[index] - low) * max(0.0, rank - below) / count
            below += count
        return None

    def __add__(self, other: Histogram) -> Histogram:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.total_s + other.total_s)

    def __sub__(self, other: Histogram) -> Histogram:
        counts = tuple(max(0, a - b) for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, max(0.0, self.total_s - other.total_s))


def bucket_of(seconds: float) -> int:
    """Which of a histogram's counts so many seconds belong to."""
    return bisect_left(LATENCY_BUCKETS_S, seconds)


NOTHING = Histogram()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationUsage:
    """Calls of one operation that ended, with an answer or an error; cancelled ones are not among them.

    `failures` are by error code, as in `shared.errors`. `latency` covers all of these calls, `first_token` those whose
    answer is streamed to the worker (chat and completion) and began. `chars_in` are the characters of the prompts that
    `tokens_in` were counted of.
    """

    calls: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    latency: Histogram = NOTHING
    first_token: Histogram = NOTHING
    tokens_in: int = 0
    tokens_out: int = 0
    chars_in: int = 0

    @property
    def failed(self) -> int:
        """Failures of all codes."""
        return sum(self.failures.values())

    @property
    def faults(self) -> Mapping[str, int]:
        """Those of the failures that are the model's or its host's, by code."""
        return {code: count for code, count in self.failures.items() if is_fault(code)}

    @property
    def faulted(self) -> int:
        """Faults of all codes."""
        return sum(self.faults.values())

    @property
    def seconds_total(self) -> float:
        return self.latency.total_s

    def __add__(self, other: OperationUsage) -> OperationUsage:
        return OperationUsage(
            calls=self.calls + other.calls,
            failures=dict(Counter(self.failures) + Counter(other.failures)),
            latency=self.latency + other.latency,
            first_token=self.first_token + other.first_token,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            chars_in=self.chars_in + other.chars_in,
        )

    def since(self, before: OperationUsage) -> OperationUsage:
        """What came after the reading `before`; all of it if the totals began anew (Redis came back empty)."""
        if self.calls < before.calls:
            return self
        return OperationUsage(
            calls=self.calls - before.calls,
            failures=dict(Counter(self.failures) - Counter(before.failures)),
            latency=self.latency - before.latency,
            first_token=self.first_token - before.first_token,
            tokens_in=max(0, self.tokens_in - before.tokens_in),
            tokens_out=max(0, self.tokens_out - before.tokens_out),
            chars_in=max(0, self.chars_in - before.chars_in),
        )


UNUSED = OperationUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """One model on one host. `model` is spelled as `shared.model_names.same` does; `host` is the backend's name.

    `operations` are by kind of job: chat, completion, embedding. `loads` counts calls that had to wait for the model to
    be loaded, `load_seconds` sums those waits. `last_used_at` is by Redis' clock, unix seconds; 0: never.
    """

    model: str
    host: str
    operations: Mapping[str, OperationUsage] = field(default_factory=dict)
    loads: int = 0
    load_seconds: float = 0.0
    last_used_at: float = 0.0

    @property
    def total(self) -> OperationUsage:
        """All operations together."""
        return sum(self.operations.values(), UNUSED)

    @property
    def calls(self) -> int:
        return sum(operation.calls for operation in self.operations.values())

    @property
    def failures(self) -> int:
        return sum(operation.failed for operation in self.operations.values())

    def __add__(self, other: ModelUsage) -> ModelUsage:
        """The same model here and there; the host's name is kept if both have it."""
        kinds = {**self.operations, **other.operations}
        return ModelUsage(
            model=self.model,
            host=self.host if self.host == other.host else "",
            operations={k: self.operations.get(k, UNUSED) + other.operations.get(k, UNUSED) for k in kinds},
            loads=self.loads + other.loads,
            load_seconds=self.load_seconds + other.load_seconds,
            last_used_at=max(self.last_used_at, other.last_used_at),
        )

    def since(self, before: ModelUsage) -> ModelUsage:
        """What came after the reading `before` of the same model and host. `last_used_at` stays."""
        if self.calls < before.calls:
            return self
        return ModelUsage(
            model=self.model,
            host=self.host,
            operations={k: usage.since(before.operations.get(k, UNUSED)) for k, usage in self.operations.items()},
            loads=max(0, self.loads - before.loads),
            load_seconds=max(0.0, self.load_seconds - before.load_seconds),
            last_used_at=self.last_used_at,
        )


def difference(now: Iterable[ModelUsage], before: Iterable[ModelUsage]) -> list[ModelUsage]:
    """What happened between two readings, for each model and host of the later one."""
    earlier = {(usage.model, usage.host): usage for usage in before}
    return [
        usage.since(earlier[usage.model, usage.host]) if (usage.model, usage.host) in earlier else usage
        for usage in now
    ]


def by_model(usages: Iterable[ModelUsage]) -> dict[str, ModelUsage]:
    """Each model over all its hosts; `host` is empty where there are several."""
    found: dict[str, ModelUsage] = {}
    for usage in usages:
        found[usage.model] = found[usage.model] + usage if usage.model in found else usage
    return found
