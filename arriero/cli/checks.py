"""What `arriero doctor` finds, from what was read. Pure, and in the order of docs/troubleshooting.md.

Each finding names the section there that says more; `tests/arriero/test_doctor.py` holds the two together.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from arriero.cli.output import seconds, size

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats
    from shared.resilience.circuits import CircuitView

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 1 << 30
LEAST_REDIS_MAJOR = 7
LEAST_OLLAMA = (0, 5)
"""From here on answers follow a JSON schema."""
LEAST_DOCKER, LEAST_COMPOSE = (20, 10), (2, 24)
"""What docs/deployment.md asks for."""
ARQ = "0.28.0"
LONG_WAIT_S = 60.0
MEMORY_WARN, MEMORY_FAIL = 0.8, 0.95
"""Shares of Redis' maxmemory."""


class Section(StrEnum):
    """Anchors of docs/troubleshooting.md."""

    INSTALLATION = "installation"
    CONFIGURATION = "configuration"
    DISK = "disk"
    REDIS = "redis-does-not-answer"
    DURABILITY = "redis-durability"
    EVICTION = "redis-eviction"
    MEMORY = "memory"
    WORKERS = "no-worker"
    STUCK = "stuck-queue"
    CIRCUITS = "open-circuits"
    DEAD_LETTERS = "dead-letters"
    LEASES = "lost-leases"
    OLLAMA = "ollama-does-not-answer"
    MODELS = "no-model"
    SERVICES = "a-service-is-down"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state`: ok, warn or fail. `remedy` is empty when ok."""

    section: Section
    what: str
    state: str
    detail: str
    remedy: str = ""

    @property
    def see(self) -> str:
        return f"docs/troubleshooting.md#{self.section}"


def installation(arq: str | None) -> Iterator[Finding]:
    """`arq`: its installed version."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info >= LEAST_PYTHON
    remedy = "" if good else "install Python 3.11 or later, then make setup"
    yield Finding(Section.INSTALLATION, "Python", "ok" if good else "fail", found, remedy)
    good = arq == ARQ
    remedy = "" if good else f"the queue needs exactly {ARQ}: make setup"
    yield Finding(Section.INSTALLATION, "arq", "ok" if good else "fail", arq or "not installed", remedy)


def containers(docker: str, compose: str) -> Iterator[Finding]:
    """Of Docker and its Compose: their versions; empty: not there, which is no fault."""
    for what, found, least in (("Docker", docker, LEAST_DOCKER), ("Docker Compose", compose, LEAST_COMPOSE)):
        good = not found or is_at_least(found, least)
        remedy = "" if good else f"{'.'.join(map(str, least))} or later is needed for make up"
        detail = found or "none; only containers need it"
        yield Finding(Section.INSTALLATION, what, "ok" if good else "warn", detail, remedy)


def is_at_least(version: str, least: tuple[int, ...]) -> bool:
    """Whether `v2.24.1-rc1`, by its leading numbers, is not older."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[: len(least)]) >= least


def configuration(faults: Sequence[str], remarks: Sequence[str]) -> Iterator[Finding]:
    for fault in faults:
        yield Finding(
            Section.CONFIGURATION, "configuration", "fail", fault, "change it; arriero config check looks again"
        )
    for remark in remarks:
        yield Finding(Section.CONFIGURATION, "configuration", "warn", remark, "write it as it is meant")
    if not faults and not remarks:
        yield Finding(Section.CONFIGURATION, "configuration", "ok", "no setting is wrong")


def disk(free_bytes: int, place: str) -> Finding:
    good = free_bytes >= LEAST_DISK_BYTES
    remedy = "" if good else "make room: Redis' append-only file stops the queue when the disk is full"
    return Finding(Section.DISK, "disk", "ok" if good else "warn", f"{size(free_bytes)} free at {place}", remedy)


def redis(stats: QueueStats, memory: Mapping[str, Any]) -> Iterator[Finding]:
    """`memory`: Redis' own INFO on it; what an ACL hides is not judged."""
    good = int(stats.redis_version.split(".")[0] or "0") >= LEAST_REDIS_MAJOR
    remedy = "" if good else f"{LEAST_REDIS_MAJOR} or later is needed"
    yield Finding(Section.REDIS, "Redis", "ok" if good else "fail", stats.redis_version, remedy)
    good = stats.durability.startswith("aof") and stats.durability != "aof-no"
    remedy = "" if good else "set `appendonly yes`: without it a Redis crash loses accepted jobs"
    yield Finding(Section.DURABILITY, "Redis durability", "ok" if good else "warn", stats.durability, remedy)
    if (policy := memory.get("maxmemory_policy")) is not None:
        good = policy == "noeviction"
        remedy = "" if good else "set `maxmemory-policy noeviction`: any other may throw jobs away"
        yield Finding(Section.EVICTION, "Redis eviction", "ok" if good else "fail", str(policy), remedy)
    used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    if most:
        share = used / most
        state = "fail" if share >= MEMORY_FAIL else "warn" if share >= MEMORY_WARN else "ok"
        remedy = "" if state == "ok" else "raise `maxmemory`, or lower RESULT_TTL, DEAD_LETTER_TTL or MAX_QUEUE_BYTES"
        yield Finding(Section.MEMORY, "Redis memory", state, f"{size(used)} of {size(most)}", remedy)


def queue(stats: QueueStats, circuits: Iterable[CircuitView]) -> Iterator[Finding]:
    count = len(stats.workers)
    remedy = "" if count else "make run, or python -m worker"
    yield Finding(Section.WORKERS, "workers", "ok" if count else "fail", f"{count} alive", remedy)
    yield _waiting(stats)
    opened = [
        circuit.name if circuit.state == "open" else f"{circuit.name} (half-open)"
        for circuit in circuits
        if circuit.state != "closed"
    ]
    yield Finding(
        Section.CIRCUITS, "circuits", "warn" if opened else "ok", ", ".join(opened) or "all closed",
        "mend what they call; they heal by themselves, or now: arriero circuits reset --all" if opened else "",
    )  # fmt: skip
    dead = stats.dead_letters
    yield Finding(
        Section.DEAD_LETTERS, "dead letters", "warn" if dead else "ok", str(dead),
        "arriero dlq list says why; arriero dlq replay runs them again" if dead else "",
    )  # fmt: skip
    if stale := stats.counters.get("stale_writes", 0):
        remedy = "workers lost leases: look for stalls, swapping or pauses"
        yield Finding(Section.LEASES, "stale writes", "warn", f"{stale} refused", remedy)


def _waiting(stats: QueueStats) -> Finding:
    waiting, oldest_s = sum(stats.queued_by_class.values()), stats.oldest_wait_s
    detail = f"{waiting} waiting, the oldest {seconds(oldest_s)}" if waiting else "nobody waits"
    if not waiting or oldest_s < LONG_WAIT_S:
        return Finding(Section.STUCK, "waiting jobs", "ok", detail)
    slots, running = (sum(getattr(worker, name) for worker in stats.workers) for name in ("slots", "running"))
    remedy = "start workers" if not slots else "add workers, or raise WORKER_CONCURRENCY"
    if slots > running:
        remedy = "slots are free: see arriero circuits status, and whether the model servers are busy"
    return Finding(Section.STUCK, "waiting jobs", "warn", detail, remedy)


def ollama(url: str, models: Sequence[str] | None, version: str = "") -> Finding:
    """`models` None: it does not answer. `version` empty: it does not say."""
    if models is None:
        remedy = "start it: `ollama serve`; `make run` simulates one; OLLAMA_BASE_URLS says where they are"
        return Finding(Section.OLLAMA, f"Ollama {url}", "warn", "does not answer", remedy)
    if version and not is_at_least(version, LEAST_OLLAMA):
        remedy = f"{'.'.join(map(str, LEAST_OLLAMA))} or later is needed; install a newer one"
        return Finding(Section.OLLAMA, f"Ollama {url}", "warn", version, remedy)
    detail = f"{version}; " if version else ""
    if not models:
        return Finding(Section.MODELS, f"Ollama {url}", "warn", detail + "no models", "arriero models pull llama3.2")
    return Finding(Section.MODELS, f"Ollama {url}", "ok", detail + ", ".join(models[:5]))


def no_ollama() -> Finding:
    """OLLAMA_ENABLED is false."""
    return Finding(Section.OLLAMA, "Ollama", "ok", "switched off (OLLAMA_ENABLED): nobody manages or watches its hosts")


def service(name: str, url: str, state: str, detail: str) -> Finding:
    """`state` as `arriero health` has it: ok, warn (it runs and is not ready), down."""
    remedies = {
        "warn": "it runs; bring back what it waits for",
        "down": f"make run, or make {name.partition('-')[0]}; if it ran before, its log says why it ended",
    }
    return Finding(
        Section.SERVICES, name, "ok" if state == "ok" else "warn", f"{url} {detail}", remedies.get(state, "")
    )


def key(given: bool, refusal: str = "") -> Finding:
    """`refusal`: what the gateway said to a call with the key, or without one; empty if it took it."""
    if refusal:
        remedy = "set ARRIERO_API_KEY; `arriero keys create --tenant <name> --role inference` makes a key"
        return Finding(Section.CONFIGURATION, "API key", "fail", refusal, remedy)
    found = "the gateway takes it" if given else "the gateway asks for none"
    return Finding(Section.CONFIGURATION, "API key", "ok", found)
