"""Which processes make up the stack, with which arguments and environment. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arriero.settings import StackSettings
from shared.services.settings import OLLAMA, URL_NAMES, split_services

SIMULATED_MODELS = "llama3.2,mistral,nomic-embed-text"
STOP_GATEWAY, STOP_WORKERS, STOP_DAEMONS, STOP_SIMULATOR, STOP_REDIS = range(5)
DRAIN_S = 0.8
"""Ctrl-C must be over in 5 s, so services get this long to finish what they do; what is left goes back to the queue."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One process to be."""

    name: str
    argv: Sequence[str]
    stop_rank: int
    grace_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    port_variable: str = ""
    port: int = 0


def service_plans(
    settings: StackSettings, redis_url: str, ollama_urls: Sequence[str], workers: int, services: str = ""
) -> list[Plan]:
    """The four services; `redis_url`, `ollama_urls`, `services` empty mean: as the services' own settings say."""
    given = {"DRAIN_TIMEOUT": f"{DRAIN_S:g}s", "WORKER_DRAIN_TIMEOUT": f"{DRAIN_S:g}s"}
    if ollama_urls:
        given["OLLAMA_BASE_URLS"] = ",".join(ollama_urls)
        # Its other names must not say anything else.
        given |= dict.fromkeys(("OLLAMA_BASE_URL", "OLLAMA_API_URL", "OLLAMA_URL"), "")
    if services:
        given["SERVICES"] = services
    if redis_url:
        # As OWN_REDIS in session.py: what belongs to another Redis must not reach this one.
        given |= {"REDIS_URL": redis_url, "REDIS_USERNAME": "", "REDIS_PASSWORD": "", "REDIS_SENTINELS": ""}
    if not settings.log_format:
        given["LOG_FORMAT"] = "console"
    plans = [
        _service("gateway", "gateway", STOP_GATEWAY, 1.1, given, "GATEWAY_PORT", settings.gateway_port),
    ]
    for number in range(1, workers + 1):
        # Only the first has the well-known port; the others take any.
        port = settings.worker_port if number == 1 else 0
        own = {**given, "WORKER_ID": f"worker-{number}"}
        plans.append(_service(f"worker-{number}", "worker", STOP_WORKERS, 1.2, own, "WORKER_PORT", port))
    plans.append(_service("manager", "manager", STOP_DAEMONS, 0.3, given, "MANAGER_PORT", settings.manager_port))
    plans.append(_service("monitor", "monitor", STOP_DAEMONS, 0.3, given, "MONITOR_PORT", settings.monitor_port))
    return plans


def without_ollama_urls(services: Any) -> str:
    """SERVICES, as somebody wrote it, as JSON without Ollama's addresses, so that OLLAMA_BASE_URLS can name others."""
    table = split_services(services)
    if OLLAMA in table:
        table[OLLAMA] = {name: value for name, value in table[OLLAMA].items() if name not in URL_NAMES}
    return json.dumps(table)


def simulator_plan(port: int) -> Plan:
    argv = [sys.executable, "-m", "infra.simulator", "--port", str(port), "--models", SIMULATED_MODELS]
    # Slow enough to watch, and to kill a worker in mid-answer by hand.
    argv += ["--load-seconds", "0.5", "--tokens-per-second", "40", "--first-token-seconds", "0.05"]
    return Plan("simulator", argv, STOP_SIMULATOR, 0.3)


def _service(
    name: str, module: str, rank: int, grace_s: float, environment: Mapping[str, str], variable: str, port: int
) -> Plan:
    argv = [sys.executable, "-m", module]
    return Plan(name, argv, rank, grace_s, {**environment, variable: str(port)}, variable, port)
