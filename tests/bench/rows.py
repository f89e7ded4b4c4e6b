"""The figures, the bars they are held to, and the pages they are written to. No bar is written down anywhere else."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.bars import Figure, Limit

OFFERED_TOKENS_PER_S = 3200.0
"""Sixteen streams of 200 tokens/s."""
OPEN_STREAMS = 2000
PATIENCE_S = {"high": 10.0, "normal": 15.0, "low": 20.0}
"""How long a class waits for a model that is not in memory before it may push others out, for each model that waits for
the same host: the settings' defaults."""
AFFINITY_MODELS = 4
"""On one host that holds one."""
AFFINITY_JOB_S = 0.55
"""One job of the affinity row."""


def _times(factor: float, peer: str) -> tuple[Limit, ...]:
    return (Limit(factor=factor, of=peer),)


def _plain(value: float) -> tuple[Limit, ...]:
    return (Limit(factor=value),)


_QUEUE = (
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
)  # fmt: skip
_GATEWAY = (
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
            paired=True,
        )
        for label, key, unit in (
            ("jobs drained", "drain_per_s", "jobs/s"),
            ("jobs enqueued", "enqueue_per_s", "jobs/s"),
            ("round trips, 32 at once", "many_per_s", "1/s"),
            ("chats, 32 clients", "chats_per_s", "req/s"),
            ("jobs accepted", "intake_per_s", "req/s"),
        )
    ),
)  # fmt: skip
_BATCHES = (
    Figure(
        row="E1", label="embeddings, 64 clients, one upstream call at a time of 20 ms", scenario="embeddings",
        key="many_per_s", unit="req/s", better="higher", must=_times(8, "arriero-unbatched"),
    ),
    Figure(
        row="E1", label="embedding p50, 1 client", scenario="embeddings", key="one_p50_ms", unit="ms", better="lower",
        must=_times(1.05, "arriero-unbatched"),
    ),
)  # fmt: skip
_MEMORY = (
    *(
        Figure(
            row="M1", label=f"{name} memory after 200,000 jobs", scenario="memory", key=f"{name}_mb", unit="MB",
            better="lower", must=_plain(150), aim=_plain(100),
        )
        for name in ("gateway", "worker")
    ),
    *(
        Figure(
            row="M1", label=f"{name} memory, growth over the last half", scenario="memory",
            key=f"{name}_growth_mb", unit="MB", better="lower", must=_plain(5),
        )
        for name in ("gateway", "worker")
    ),
    Figure(
        row="M2", label="streams held open, the fewest at any time", scenario="streams", key="streams", unit="streams",
        better="higher", must=_plain(OPEN_STREAMS),
    ),
    *(
        Figure(
            row="M2", label=f"{name} memory with them, at most", scenario="streams", key=f"{name}_mb", unit="MB",
            better="lower",
        )
        for name in ("gateway", "worker")
    ),
    *(
        Figure(
            row="M2", label=f"{name} memory, slope over the last eight minutes", scenario="streams",
            key=f"{name}_slope_mb", unit="MB in 10 min", better="lower", must=_plain(1),
        )
        for name in ("gateway", "worker")
    ),
)  # fmt: skip
_DEPTH = (
    *(
        Figure(
            row="D1", label=f"{name} p99, one million jobs queued", scenario="depth", key=f"{key}_p99_ms", unit="ms",
            better="lower", must=_times(2, "queued-100"), subject="queued-1000000",
        )
        for name, key in (("enqueue", "enqueue"), ("claim of one job", "claim"))
    ),
    *(
        Figure(
            row="D1", label=f"{name} p50, the same", scenario="depth", key=f"{key}_p50_ms", unit="ms", better="lower",
            subject="queued-1000000",
        )
        for name, key in (("enqueue", "enqueue"), ("claim", "claim"))
    ),
    Figure(
        row="D1", label="Redis memory for a queued job, beyond its payload", scenario="depth", key="overhead_bytes",
        unit="bytes", better="lower", must=_plain(1.2 * 1024), subject="queued-1000000",
    ),
)  # fmt: skip
_AFFINITY = (
    Figure(
        row="A1", label="model loads", scenario="affinity", key="loads", unit="loads", better="lower",
        must=_times(0.2, "arriero-fifo"),
    ),
    Figure(
        row="A1", label="all 500 jobs done after", scenario="affinity", key="total_s", unit="s", better="lower",
        must=_times(0.5, "arriero-fifo"),
    ),
    *(
        Figure(
            row="A1", label=f"longest wait, class {name}", scenario="affinity", key=f"{name}_wait_s", unit="s",
            better="lower", must=_plain(patience_s * (AFFINITY_MODELS - 1) + AFFINITY_JOB_S),
        )
        for name, patience_s in PATIENCE_S.items()
    ),
    Figure(
        row="A1", label="simulated seconds in one of the run's", scenario="affinity", key="speed", unit="s",
        better="lower",
    ),
)  # fmt: skip
_CLIENTS = (
    Figure(
        row="clients", label="request p50, one at a time", scenario="clients", key="one_p50_ms", unit="ms",
        better="lower", must=_times(1, "httpx-uvloop"), subject="aiohttp-uvloop",
    ),
    Figure(
        row="clients", label="requests, 64 at once", scenario="clients", key="many_per_s", unit="req/s",
        better="higher", must=_times(1, "httpx-uvloop"), subject="aiohttp-uvloop",
    ),
    Figure(
        row="clients", label="streamed lines, 16 streams at once", scenario="clients", key="lines_per_s",
        unit="lines/s", better="higher", must=_times(1, "httpx-uvloop"), subject="aiohttp-uvloop",
    ),
)  # fmt: skip
FIGURES: tuple[Figure, ...] = (*_QUEUE, *_GATEWAY, *_BATCHES, *_MEMORY, *_DEPTH, *_AFFINITY, *_CLIENTS)
ROWS: tuple[str, ...] = tuple(dict.fromkeys(figure.row for figure in FIGURES))

NOTES: dict[str, str] = {
    "G6": "Two Redis servers, one of them with an append-only file that is synced every second, each with workers and "
    "gateways of its own. Both sides are up together and take turns in slices of about a second, four for each figure "
    "and side, while the other side idles; every other time the other one begins. A figure of a run is all that was "
    "done in its slices over the time they took. The number in brackets, to which the bars apply, is the median of the "
    "runs' own quotients, not the quotient of the medians. After each slice the file is synced, so that the other side "
    "does not pay for it. Rewrites of the file are switched off, since one would fall into some slices and not into "
    "others. By default Redis makes one for every 64 MB added, or 24,000 no-op jobs; what it costs is in "
    "[performance](../performance.md).",
}
"""How a row was set, where its figures cannot say."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Page:
    """Rows that are written together, to `docs/results/<file>`, once each had at least `runs` turns."""

    file: str
    command: str
    title: str
    intro: str
    rows: tuple[str, ...]
    runs: int = 5
    has_plots: bool = False


_SPEED_ROWS = ("Q1", "Q2", "Q3", "Q4", "Q5", "G1", "G2", "G3", "G4", "G5", "G6", "E1", "M1")
PAGES: dict[str, Page] = {
    "speed": Page(
        file="bench.md", command="make bench", title="Speed, side by side", rows=_SPEED_ROWS,
        has_plots=True,
        intro="The peers took turns in one run, so the ratios are what counts. A stub upstream answers in hundredths "
        "of a millisecond: what is left is the road itself.",
    ),
    "memory": Page(
        file="bench-memory.md", command="make bench-memory", title="Memory", rows=("M1", "M2"), runs=1,
        intro="One gateway and one worker process. M1: after 200,000 chats. M2: after 200,000 more, with 2,000 streams "
        "open, each of 60 s and followed by another, and chats beside them for ten minutes; the slope is that of the "
        "line through the resident memory of each second (least squares), the first two minutes left out.",
    ),
    "depth": Page(
        file="bench-depth.md", command="make bench-depth", title="A deep queue", rows=("D1",),
        intro="Three Redis servers with 100, ten thousand and a million jobs of 1 KiB text in them, of 20 tenants and "
        "four models. In turns, jobs are enqueued one by one while a worker claims as many, one by one.",
    ),
    "affinity": Page(
        file="bench-affinity.md", command="make bench-affinity", title="Model affinity", rows=("A1",), runs=1,
        intro="The simulator with one host that holds one model and serves one request at a time; a load takes 2 s, a "
        "job 0.55 s. 500 jobs for four models at random, a tenth of them high and a fifth low, arrive at random "
        "(Poisson) at 70 % of what the host can do without loads. Without a queue all requests wait in the model "
        "server itself. Times are simulated ones: all that the simulator and the settings name took so much less. What "
        "is fixed in the worker (it looks at hosts every two seconds) did not, which is to its disadvantage.",
    ),
    "clients": Page(
        file="bench-clients.md", command="make bench-clients", title="HTTP clients and event loops", rows=("clients",),
        intro="One client process posts chats to the stub upstream: which library and which event loop the worker "
        "should call model servers with.",
    ),
}  # fmt: skip
