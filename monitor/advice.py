"""What could be tuned, each with the figures that say so. Pure: a snapshot and a few means in, recommendations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.readings import ModelReading, Snapshot
from monitor.signals import LEAST_FAULTS

LOCAL_HOSTS = ("127.", "localhost", "[::1]")
GIB = 2**30
MEANS = ("queue_oldest_wait_s", "slots_busy_ratio", "cpu_ratio", "gpu_ratio", "redis_latency_s")
"""Signals whose means over the last ten minutes are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One recommendation. `figures` are what led to it, with their units in the names."""

    topic: str
    text: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`means`: of the signals in `MEANS`, over the last ten minutes; one that is missing was not read."""

    snapshot: Snapshot
    means: Mapping[str, float] = field(default_factory=dict)
    min_calls: int = 20
    """Fewer calls of a model say nothing about it."""


def advise(evidence: Evidence) -> Sequence[Advice]:
    """All that apply, the most pressing kinds first."""
    return [advice for find in _FINDERS for advice in find(evidence)]


def _slots(evidence: Evidence) -> Iterable[Advice]:
    queue, means = evidence.snapshot.queue, evidence.means
    wait_s, busy = means.get("queue_oldest_wait_s", 0.0), means.get("slots_busy_ratio")
    if queue is None or busy is None or wait_s < 5:
        return
    figures = {"oldest_wait_s": wait_s, "slots": queue.slots, "slots_busy_ratio": busy}
    if busy < 0.5:
        yield Advice(
            topic="idle_slots",
            text=f"Jobs wait {wait_s:.0f} s although only {busy:.0%} of the workers' {queue.slots} slots are in use: "
            "open circuits or busy model servers hold them back. See `arriero circuits status`.",
            figures=figures,
        )
        return
    if busy < 0.9:
        return
    name, load = ("GPUs", means["gpu_ratio"]) if "gpu_ratio" in means else ("processors", means.get("cpu_ratio", 1.0))
    # Where the model servers are elsewhere, this machine's processors say nothing about them.
    if load < 0.5 and any(host.host.startswith(LOCAL_HOSTS) for host in evidence.snapshot.ollama):
        yield Advice(
            topic="concurrency",
            text=f"Jobs wait {wait_s:.0f} s with all {queue.slots} slots in use, while the {name} are only {load:.0%} "
            "busy: raise WORKER_CONCURRENCY, and OLLAMA_NUM_PARALLEL with it.",
            figures={**figures, "load_ratio": load},
        )
    else:
        yield Advice(
            topic="workers",
            text=f"Jobs wait {wait_s:.0f} s with all {queue.slots} slots in use: add workers "
            "(`docker compose up --scale worker=N`), and a model server if those there are busy.",
            figures=figures,
        )


def _drain(evidence: Evidence) -> Iterable[Advice]:
    queue = evidence.snapshot.queue
    if queue is None or not queue.stats.drain_per_s or not queue.waiting:
        return
    minutes = queue.waiting / queue.stats.drain_per_s / 60
    if minutes >= 5:
        yield Advice(
            topic="backlog",
            text=f"At {queue.stats.drain_per_s:.3g} jobs a second the {queue.waiting} waiting jobs take {minutes:.0f} "
            "minutes: add workers or hosts, or send what can wait with low priority.",
            figures={"waiting": queue.waiting, "drain_per_s": queue.stats.drain_per_s, "minutes": minutes},
        )


_REMEDIES = {
    "backend_timeout": "allow more time (OLLAMA_TIMEOUT, WORKER_TIMEOUT) or ask for shorter answers",
    "backend_unreachable": "check that its hosts run and that OLLAMA_BASE_URLS is right",
    "model_fault": "look into the model server's log; its memory may be too small for the model",
}

_ANY_FAULT = "see `arriero dlq list`"


def _failures(evidence: Evidence) -> Iterable[Advice]:
    for model in evidence.snapshot.models or ():
        if model.usage.calls < evidence.min_calls or model.error_ratio < 0.05 or model.usage.faulted < LEAST_FAULTS:
            continue
        code, count = max(model.usage.faults.items(), key=lambda item: (item[1], item[0]))
        faults = model.usage.faulted
        mostly = count > faults / 2
        remedy = _REMEDIES.get(code, _ANY_FAULT) if mostly else _ANY_FAULT
        yield Advice(
            topic="failures",
            text=f"{model.error_ratio:.0%} of the {model.operation} calls of {model.model} fail, "
            f"{'mostly' if mostly else 'most often'} with {code}: {remedy}.",
            figures={"calls": model.usage.calls, "faults": faults, code: count},
        )


def _memory(evidence: Evidence) -> Iterable[Advice]:
    host = evidence.snapshot.host
    if host is None:
        return
    swapped = host.swap.used_bytes
    if swapped > 0.02 * host.memory.total_bytes:
        yield Advice(
            topic="swap",
            text=f"{swapped / GIB:.1f} GiB are in swap, which makes models slow: keep fewer in memory "
            "(OLLAMA_MAX_LOADED_MODELS, MODEL_MEMORY_THRESHOLD) or add memory.",
            figures={"swap_used_bytes": swapped, "memory_used_ratio": host.memory.used_ratio},
        )


def _gpu_memory(evidence: Evidence) -> Iterable[Advice]:
    models = {model.model for model in evidence.snapshot.models or ()}
    for gpu in evidence.snapshot.gpus or ():
        if gpu.memory_ratio is not None and gpu.memory_ratio >= 0.9 and len(models) > 1:
            yield Advice(
                topic="gpu_memory",
                text=f"The memory of GPU {gpu.index} is {gpu.memory_ratio:.0%} full with {len(models)} models in use: "
                "lower OLLAMA_MAX_LOADED_MODELS or OLLAMA_NUM_PARALLEL, or give the models hosts of their own.",
                figures={"gpu": gpu.index, "memory_ratio": gpu.memory_ratio, "models": len(models)},
            )


def _loading(evidence: Evidence) -> Iterable[Advice]:
    ratio = evidence.snapshot.loading_ratio
    if ratio is not None and ratio >= 0.1:
        yield Advice(
            topic="loading",
            text=f"{ratio:.0%} of the time of calls goes into loading models: pin those in use "
            "(`arriero models pin`), or raise OLLAMA_MAX_LOADED_MODELS and MODEL_UNLOAD_TIMEOUT.",
            figures={"loading_ratio": ratio},
        )


def _embeddings(evidence: Evidence) -> Iterable[Advice]:
    for model in evidence.snapshot.models or ():
        if model.operation == "embedding" and model.requests_per_min >= 300 and _typical_s(model) <= 0.25:
            yield Advice(
                topic="batch",
                text=f"{model.model} gets {model.requests_per_min:.0f} short embedding calls a minute: send several "
                "texts in one request.",
                figures={"requests_per_min": model.requests_per_min, "p50_s": _typical_s(model)},
            )


def _typical_s(model: ModelReading) -> float:
    return model.usage.latency.percentile_s(0.5) or 0.0


def _disks(evidence: Evidence) -> Iterable[Advice]:
    for disk in evidence.snapshot.host.disks if evidence.snapshot.host else ():
        if disk.used_ratio >= 0.8:
            left = (disk.total_bytes - disk.used_bytes) / GIB
            yield Advice(
                topic="disk",
                text=f"The disk of {disk.path} is {disk.used_ratio:.0%} full, {left:.1f} GiB are left: "
                "`arriero models cleanup` shows which models nobody uses.",
                figures={"used_ratio": disk.used_ratio, "left_bytes": disk.total_bytes - disk.used_bytes},
            )


def _redis(evidence: Evidence) -> Iterable[Advice]:
    queue, latency_s = evidence.snapshot.queue, evidence.means.get("redis_latency_s", 0.0)
    if queue is not None and queue.stats.durability == "none":
        yield Advice(
            topic="durability",
            text="Redis keeps no append-only file, so that accepted jobs are lost with it: set `appendonly yes`.",
            figures={"jobs_at_risk": sum(queue.stats.states.values())},
        )
    if queue is not None and queue.redis_limit_bytes and queue.eviction_policy != "noeviction":
        yield Advice(
            topic="eviction",
            text=f"Redis throws away keys once {queue.redis_limit_bytes / GIB:.3g} GiB are full (maxmemory-policy "
            f"{queue.eviction_policy}), accepted jobs among them: set `maxmemory-policy noeviction`.",
            figures={"maxmemory_bytes": queue.redis_limit_bytes, "jobs_at_risk": sum(queue.stats.states.values())},
        )
    if latency_s >= 0.01:
        yield Advice(
            topic="redis_latency",
            text=f"A round trip to Redis takes {latency_s * 1000:.0f} ms, and each job needs several: bring it nearer, "
            "or see what keeps it busy (`SLOWLOG GET`).",
            figures={"latency_s": latency_s},
        )


def _dead_letters(evidence: Evidence) -> Iterable[Advice]:
    queue = evidence.snapshot.queue
    if queue is not None and queue.stats.dead_letters >= 100:
        yield Advice(
            topic="dead_letters",
            text=f"{queue.stats.dead_letters} jobs that failed for good are kept: `arriero dlq list` shows why, "
            "`arriero dlq replay` runs them again, `arriero dlq purge` forgets them.",
            figures={"dead_letters": queue.stats.dead_letters},
        )


_FINDERS: tuple[Callable[[Evidence], Iterable[Advice]], ...] = (
    _failures, _slots, _drain, _memory, _gpu_memory, _loading, _disks, _redis, _dead_letters, _embeddings,
)  # fmt: skip
