"""Counters and histograms for what happens thousands of times a second.

A labelled child of prometheus-client takes seven Python calls and a lock to count one request; these take one and none.
Like everything of a service they belong to its event loop's thread, the page too. What happens less often is counted
with prometheus-client's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric


class Tally:
    """A counter: `tally.counts[labels] += 1`. `name` is given without `_total`; `known`: labels shown from the start,
    as Prometheus sees no increase in a first value.
    """

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        *,
        known: Iterable[tuple[object, ...]] = (),
        registry: CollectorRegistry,
    ) -> None:
        self.counts: defaultdict[tuple[object, ...], int] = defaultdict(int, dict.fromkeys(known, 0))
        self.labels = labels
        self._name, self._help = name, help_text
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks for a page."""
        family = CounterMetricFamily(self._name, self._help, labels=self.labels)
        for labels, count in self.counts.items():
            family.add_metric([str(label) for label in labels], count)
        yield family


class Timings:
    """A histogram of seconds with one label. `buckets_s`: their upper bounds, rising; the last one has no end."""

    def __init__(
        self, name: str, help_text: str, label: str, *, buckets_s: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self.labels = (label,)
        self._name, self._help = name, help_text
        self._bounds = tuple(buckets_s)
        self._names = [*map(str, self._bounds), "+Inf"]
        # Of each label: how many in each bucket alone, and the sum of their seconds.
        self._rows: dict[str, tuple[list[int], list[float]]] = {}
        registry.register(self)

    def observe(self, label: str, seconds: float) -> None:
        row = self._rows.get(label)
        if row is None:
            row = self._rows[label] = ([0] * len(self._names), [0.0])
        row[0][bisect_left(self._bounds, seconds)] += 1
        row[1][0] += seconds

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks for a page."""
        family = HistogramMetricFamily(self._name, self._help, labels=self.labels)
        for label, (counts, (total,)) in self._rows.items():
            family.add_metric([label], buckets=list(zip(self._names, accumulate(counts), strict=True)), sum_value=total)
        yield family
