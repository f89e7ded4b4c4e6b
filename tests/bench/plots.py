"""Which plots there are, and their data. matplotlib draws them in an environment of its own, as the peers have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench.catalogue import PLOTTER, cache_directory, ensure_installed, peer_python
from tests.bench.figures import spread
from tests.bench.processes import Children
from tests.bench.runner import Results
from tests.bench.titles import TITLES

DRAW_TIMEOUT_S = 120.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Plot:
    """`series` are (label, figure key) of one scenario; bars are long where that is good if `higher_is_better`."""

    name: str
    title: str
    unit: str
    scenario: str
    series: tuple[tuple[str, str], ...]
    higher_is_better: bool
    subject: str = "arriero"


PLOTS: tuple[Plot, ...] = (
    Plot(
        name="bench-drain", title="Queues: no-op jobs of one process", unit="jobs a second", scenario="throughput",
        series=(("drained by one worker", "drain_per_s"), ("enqueued, 50 callers", "enqueue_per_s")),
        higher_is_better=True,
    ),
    Plot(
        name="bench-roundtrip", title="Queues: round trip, one job at a time", unit="ms", scenario="roundtrip",
        series=(("p50", "one_p50_ms"), ("p99", "one_p99_ms")), higher_is_better=False,
    ),
    Plot(
        name="bench-chat", title="Gateways: chat, one client", unit="ms", scenario="chat",
        series=(("p50", "one_p50_ms"), ("p99", "one_p99_ms")), higher_is_better=False,
    ),
    Plot(
        name="bench-tokens", title="Gateways: streamed tokens, 16 clients, flat out", unit="tokens a second",
        scenario="flat", series=(("tokens", "tokens_per_s"),), higher_is_better=True,
    ),
)  # fmt: skip


class Bar(msgspec.Struct, frozen=True):
    """One peer's figure: median, least and most of its runs."""

    who: str
    is_subject: bool
    median: float
    low: float
    high: float


class Chart(msgspec.Struct, frozen=True):
    """A plot with its data, as `draw.py` reads it. `series` are (label, bars); not every peer is in each."""

    name: str
    title: str
    axis: str
    stamp: str
    series: list[tuple[str, list[Bar]]]


def chart(plot: Plot, results: Results, stamp: str) -> Chart | None:
    """The plot's data, the best peer of the first series last; None when nothing was measured."""
    measured = results.values.get(plot.scenario, {})
    series = []
    for label, key in plot.series:
        bars = [
            Bar(TITLES[peer], peer == plot.subject, seen.median, seen.low, seen.high)
            for peer, figures in measured.items()
            if key in figures and (seen := spread(figures[key]))
        ]
        bars.sort(key=lambda bar: bar.median if plot.higher_is_better else -bar.median)
        series.append((label, bars))
    if not series[0][1]:
        return None
    better = "more is better" if plot.higher_is_better else "less is better"
    return Chart(plot.name, plot.title, f"{plot.unit}, logarithmic ({better})", stamp, series)


def draw(results: Results, stamp: str, folder: Path, scratch: Path, say: Callable[[str], None]) -> list[str]:
    """Write an SVG for each plot that has data; their file names. Raises PeerUnavailable and BenchError."""
    charts = [made for plot in PLOTS if (made := chart(plot, results, stamp)) is not None]
    if not charts:
        return []
    python = peer_python(ensure_installed(PLOTTER, cache_directory(), say))
    data = scratch / "charts.json"
    data.write_bytes(msgspec.json.encode(charts))
    command = [str(python), "-m", "tests.bench.draw", str(data), str(folder)]
    with Children(scratch) as children:
        children.answer("draw", command, timeout_s=DRAW_TIMEOUT_S)
    return [f"{made.name}.svg" for made in charts]
