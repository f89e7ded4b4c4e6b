"""`arriero doctor`: goes through docs/troubleshooting.md, and says what to do where something is not right."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import httpx
import typer
from rich.markup import escape

from arriero.cli import checks, config, connection
from arriero.cli.checks import Finding, Section
from arriero.cli.failures import EXIT_CONFIG, CommandFailed
from arriero.cli.health import probe, service_urls
from arriero.cli.output import Json, console, print_json, print_table, status
from arriero.settings import StackSettings

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats
    from shared.resilience.circuits import CircuitView

OLLAMA_S = 5.0


def doctor(as_json: Json = False) -> None:
    """Check installation, settings, disk, Redis, queue, Ollama, services. Exit status 1 if something must be done."""
    settings = StackSettings()
    look: list[Callable[[], Iterator[Finding]]] = [
        _installation,
        _configuration,
        lambda: _disk(settings),
        lambda: _redis(settings),
        lambda: _ollama(settings),
        _services,
    ]
    findings = [finding for check in look for finding in check()]
    if as_json:
        print_json([_public(finding) for finding in findings])
    else:
        print_table(
            ("", "check", "found", "to do"),
            [(status(f.state), f.what, escape(f.detail), escape(f.remedy)) for f in findings],
        )
        for see in dict.fromkeys(finding.see for finding in findings if finding.state != "ok"):
            console().print(f"see {see}")
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def _public(finding: Finding) -> dict[str, str]:
    fields = {name: str(getattr(finding, name)) for name in ("what", "state", "detail", "remedy")}
    return {**fields, "see": finding.see}


def _installation() -> Iterator[Finding]:
    try:
        arq = version("arq")
    except PackageNotFoundError:
        arq = None
    yield from checks.installation(arq)


def _configuration() -> Iterator[Finding]:
    try:
        found = json.loads(config.report("faults", accepted=(EXIT_CONFIG,)))
    except CommandFailed as exc:
        yield Finding(Section.CONFIGURATION, "configuration", "fail", str(exc), "arriero config check")
        return
    yield from checks.configuration(found["faults"], found["remarks"])


def _disk(settings: StackSettings) -> Iterator[Finding]:
    directory = connection.stack_directory(settings)
    present = next(folder for folder in (directory, *directory.parents) if folder.exists())
    yield checks.disk(shutil.disk_usage(present).free, str(present))


def _redis(settings: StackSettings) -> Iterator[Finding]:
    try:
        stats, memory, circuits = asyncio.run(_ask_redis())
    except CommandFailed as exc:
        yield Finding(Section.REDIS, "Redis", "fail", "does not answer", str(exc))
        if not settings.redis_url:
            yield _startable()
        return
    yield from checks.redis(stats, memory)
    yield from checks.queue(stats, circuits)


async def _ask_redis() -> tuple[QueueStats, Mapping[str, Any], list[CircuitView]]:
    from arriero.cli import redis_access
    from shared.resilience.circuit_admin import CircuitAdmin

    async with redis_access.queue() as queue:
        circuits = await CircuitAdmin(queue.redis, queue.keys).circuits()
        return await queue.stats(), await queue.redis.info("memory"), circuits


def _startable() -> Finding:
    from arriero.stack.redis_server import choose_server

    try:
        return Finding(Section.REDIS, "Redis to start", "ok", choose_server().origin)
    except LookupError as exc:
        return Finding(Section.REDIS, "Redis to start", "fail", "none", str(exc))


def _ollama(settings: StackSettings) -> Iterator[Finding]:
    run = connection.this_stack(settings)
    for url in run.ollama_urls if run and run.ollama_urls else settings.ollama_hosts:
        try:
            models = httpx.get(url + "/api/tags", timeout=OLLAMA_S, trust_env=False).json().get("models") or []
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
            yield checks.ollama(url, None)
            continue
        yield checks.ollama(url, [str(model.get("name")) for model in models])


def _services() -> Iterator[Finding]:
    for name, url in service_urls().items():
        found = probe(name, url)
        yield checks.service(name, url, found.state, found.detail)
