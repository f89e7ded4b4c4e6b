"""`arriero doctor`: looks at everything that has to be right, and says what to do where it is not."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import httpx
import typer
from rich.markup import escape

from arriero.cli import connection
from arriero.cli.failures import CommandFailed
from arriero.cli.health import probe, service_urls
from arriero.cli.output import Json, print_json, print_table, status
from arriero.settings import StackSettings

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats

LEAST_DISK_BYTES = 1 << 30
ARQ = "0.28.0"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state`: ok, warn or fail. `remedy` is empty when ok."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def doctor(as_json: Json = False) -> None:
    """Check Python, packages, disk, Redis, workers, gateway and Ollama. Exit status 1 if something must be done."""
    settings = StackSettings()
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        lambda: _disk(settings),
        lambda: _redis(settings),
        lambda: _ollama(settings),
        _services,
    ]
    findings = [finding for check in checks for finding in check()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            ("", "check", "found", "to do"),
            [(status(f.state), f.what, escape(f.detail), escape(f.remedy)) for f in findings],
        )
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    found = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info >= (3, 11)
    yield Finding("Python", "ok" if good else "fail", found, "" if good else "install Python 3.11 or later")


def _packages() -> Iterator[Finding]:
    try:
        found = version("arq")
    except PackageNotFoundError:
        yield Finding("arq", "fail", "not installed", "make setup")
        return
    good = found == ARQ
    yield Finding("arq", "ok" if good else "fail", found, "" if good else f"the queue needs exactly {ARQ}: make setup")


def _disk(settings: StackSettings) -> Iterator[Finding]:
    directory = connection.stack_directory(settings)
    present = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(present).free
    detail = f"{free / 2**30:.1f} GiB free at {present}"
    if free < LEAST_DISK_BYTES:
        yield Finding(
            "disk", "warn", detail, "make room: Redis' append-only file stops the queue when the disk is full"
        )
    else:
        yield Finding("disk", "ok", detail)


def _redis(settings: StackSettings) -> Iterator[Finding]:
    from arriero.stack.redis_server import OLDEST_MAJOR

    try:
        stats, policy = asyncio.run(_ask_redis())
    except CommandFailed as exc:
        yield Finding("Redis", "fail", "does not answer", str(exc))
        if not settings.redis_url:
            yield _startable()
        return
    major = int(stats.redis_version.split(".")[0] or "0")
    good = major >= OLDEST_MAJOR
    yield Finding(
        "Redis", "ok" if good else "fail", stats.redis_version, "" if good else f"{OLDEST_MAJOR} or later is needed"
    )
    durable = stats.durability.startswith("aof") and stats.durability != "aof-no"
    remedy = "" if durable else "set `appendonly yes`: without it a Redis crash loses accepted jobs"
    yield Finding("Redis durability", "ok" if durable else "warn", stats.durability, remedy)
    if policy is not None:
        keeps = policy == "noeviction"
        remedy = "" if keeps else "set `maxmemory-policy noeviction`: any other may throw jobs away"
        yield Finding("Redis eviction", "ok" if keeps else "fail", policy, remedy)
    count = len(stats.workers)
    yield Finding(
        "workers", "ok" if count else "warn", f"{count} alive", "" if count else "make run, or python -m worker"
    )
    stale = stats.counters.get("stale_writes", 0)
    if stale:
        yield Finding(
            "stale writes", "warn", f"{stale} refused", "workers lost leases: look for stalls, swapping or pauses"
        )


async def _ask_redis() -> tuple[QueueStats, str | None]:
    """Statistics, and the eviction policy where the server tells it (an ACL may not let us ask)."""
    from arriero.cli import redis_access

    async with redis_access.queue() as queue:
        memory = await queue.redis.info("memory")
        return await queue.stats(), memory.get("maxmemory_policy")


def _startable() -> Finding:
    from arriero.stack.redis_server import choose_server

    try:
        return Finding("Redis to start", "ok", choose_server().origin)
    except LookupError as exc:
        return Finding("Redis to start", "fail", "none", str(exc))


def _ollama(settings: StackSettings) -> Iterator[Finding]:
    run = connection.this_stack(settings)
    for url in run.ollama_urls if run and run.ollama_urls else settings.ollama_hosts:
        try:
            models = httpx.get(url + "/api/tags", timeout=5, trust_env=False).json().get("models") or []
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
            yield Finding(
                f"Ollama {url}", "warn", "does not answer", "start it: `ollama serve`; `make run` simulates one"
            )
            continue
        names = ", ".join(str(model.get("name")) for model in models[:5])
        remedy = "" if models else "ollama pull llama3.2"
        yield Finding(f"Ollama {url}", "ok" if models else "warn", names or "no models", remedy)


def _services() -> Iterator[Finding]:
    for name, url in service_urls().items():
        found = probe(name, url)
        state = {"ok": "ok", "warn": "warn", "down": "warn"}[found.state]
        yield Finding(name, state, f"{url} {found.detail}", "" if found.state == "ok" else "make run")
