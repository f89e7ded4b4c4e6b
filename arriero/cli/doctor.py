"""`arriero doctor`: goes through docs/troubleshooting.md, and says what to do where something is not right."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import TYPE_CHECKING, Any

import httpx
import typer
from pydantic import ValidationError
from rich.markup import escape

from arriero.cli import checks, config, connection
from arriero.cli.checks import Finding, Section
from arriero.cli.daemons import LOOK_S
from arriero.cli.failures import EXIT_CONFIG, CommandFailed, describe
from arriero.cli.health import probe, service_urls
from arriero.cli.output import Json, console, print_json, print_table, status
from arriero.client import Client
from arriero.errors import ApiError, GatewayUnreachable
from arriero.settings import StackSettings
from shared.settings import BaseServiceSettings

if TYPE_CHECKING:
    from shared.queue.stats import QueueStats
    from shared.resilience.circuits import CircuitView


def doctor(as_json: Json = False) -> None:
    """Check installation, settings, disk, Redis, queue, Ollama, services. Exit status 1 if something must be done."""
    settings = StackSettings()
    look: list[Callable[[], Iterator[Finding]]] = [
        _installation,
        _containers,
        _configuration,
        lambda: _disk(settings),
        lambda: _redis(settings),
        lambda: _ollama(settings),
        _services,
        lambda: _key(settings),
    ]
    # All at once: what hangs is waited for once, not in turn.
    with ThreadPoolExecutor(len(look)) as pool:
        findings = list(chain.from_iterable(pool.map(lambda check: list(check()), look)))
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


def _containers() -> Iterator[Finding]:
    docker = _version_of("docker", "version", "--format", "{{.Client.Version}}")
    yield from checks.containers(docker, _version_of("docker", "compose", "version", "--short") if docker else "")


def _version_of(*command: str) -> str:
    """What a program says its version is; empty where there is none, or it says something else."""
    try:
        # Its status does not matter: without a running daemon `docker version` fails, and still tells its own.
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = done.stdout.strip()
    return found if re.fullmatch(r"v?\d+\.\d+\S*", found) else ""


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
    except ValidationError as exc:
        yield Finding(Section.REDIS, "Redis", "fail", "cannot be asked: its settings are wrong", describe(exc)[0])
        return
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
    try:
        urls = run.ollama_urls if run and run.ollama_urls else BaseServiceSettings().ollama_hosts
    except ValidationError as exc:
        yield Finding(Section.OLLAMA, "Ollama", "fail", "cannot be asked: settings are wrong", describe(exc)[0])
        return
    if not urls:
        yield checks.no_ollama()
    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(_ask_ollama, urls)


def _ask_ollama(url: str) -> Finding:
    try:
        with httpx.Client(timeout=LOOK_S, trust_env=False) as http:
            models = http.get(url + "/api/tags").json().get("models") or []
            version = http.get(url + "/api/version").json().get("version") or ""
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        return checks.ollama(url, None)
    return checks.ollama(url, [str(model.get("name")) for model in models], str(version))


def _services() -> Iterator[Finding]:
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda item: probe(*item), service_urls().items()):
            yield checks.service(found.service, found.url, found.state, found.detail)


def _key(settings: StackSettings) -> Iterator[Finding]:
    """Whether the gateway lets the command in; nothing where it cannot be asked, which the services' check tells."""
    given = settings.arriero_api_key.get_secret_value()
    with Client(connection.gateway_url(settings), given or None, LOOK_S, max_retries=0) as gateway:
        try:
            gateway.list(limit=1)
        except ApiError as exc:
            if exc.status not in (401, 403):
                return
            yield checks.key(bool(given), exc.message)
        except GatewayUnreachable:
            return
        else:
            yield checks.key(bool(given))
