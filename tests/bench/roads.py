"""How each gateway is started in front of the stub upstream, one process each (Arriero: one gateway, one worker)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.catalogue import peer_python
from tests.bench.processes import Child, Children, wait_for_http, wait_for_port
from tests.bench.stub_upstream import MODELS
from tests.house.redis_server import free_port

START_TIMEOUT_S = 120.0
WORKER_SLOTS = 64
"""More than the most clients of any row, so that no request waits for a slot."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Road:
    """A running gateway. `processes` are those whose memory counts."""

    name: str
    base_url: str
    headers: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Child] = field(default_factory=dict)


@dataclass(slots=True, frozen=True, kw_only=True)
class Surroundings:
    """What a road stands on. `peers` maps an installed peer to its directory."""

    children: Children
    redis_url: str
    stub_url: str
    peers: dict[str, Path]
    scratch: Path


def start_stub(children: Children) -> str:
    """Start the stub upstream; its base URL."""
    port = free_port()
    child = children.start("stub", [sys.executable, "-m", "tests.bench.stub_upstream", "--port", str(port)])
    wait_for_port(child, port, timeout_s=20.0)
    return f"http://127.0.0.1:{port}"


def start_direct(around: Surroundings) -> Road:
    """No gateway at all: what the load client and the stub can do by themselves."""
    return Road(name="direct", base_url=around.stub_url)


def start_arriero(around: Surroundings, *, worker: bool = True, settings: Mapping[str, str] | None = None) -> Road:
    """The durable road. Without `worker`, jobs are accepted and wait. `settings` go before those set here."""
    port = free_port()
    env = {
        "REDIS_URL": around.redis_url,
        "OLLAMA_BASE_URL": around.stub_url,
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "WORKER_PORT": "0",
        "WORKER_CONCURRENCY": str(WORKER_SLOTS),
        "MAX_CONCURRENT_REQUESTS": str(WORKER_SLOTS),
        "MAX_QUEUE_DEPTH": "10000000",
        "LOG_LEVEL": "WARNING",
        **(settings or {}),
    }
    processes = {"gateway": around.children.start("arriero-gateway", [sys.executable, "-m", "gateway"], env)}
    if worker:
        processes["worker"] = around.children.start("arriero-worker", [sys.executable, "-m", "worker"], env)
    base_url = f"http://127.0.0.1:{port}"
    # Readiness asks for a worker, which the intake row leaves out.
    probe = "/health/ready" if worker else "/health/live"
    wait_for_http(list(processes.values()), base_url + probe, timeout_s=START_TIMEOUT_S)
    return Road(name="arriero", base_url=base_url, processes=processes)


def start_litellm(around: Surroundings) -> Road:
    """LiteLLM's proxy with the stub as an OpenAI upstream, its own network calls and cost tracking left out."""
    port = free_port()
    config = around.scratch / "litellm.json"
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": f"{around.stub_url}/v1", "api_key": "none"},
        }
        for name in MODELS
    ]
    # JSON is YAML, so no YAML writer is needed.
    config.write_text(json.dumps({"model_list": models, "general_settings": {"disable_spend_logs": True}}))
    program = peer_python(around.peers["litellm"]).with_name("litellm")
    command = [str(program), "--config", str(config), "--telemetry", "False"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # Arriero on loopback checks no key either.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    child = around.children.start("litellm", command, env)
    base_url = f"http://127.0.0.1:{port}"
    wait_for_http([child], f"{base_url}/health/liveliness", timeout_s=START_TIMEOUT_S)
    return Road(name="litellm", base_url=base_url, processes={"gateway": child})


def start_portkey(around: Surroundings) -> Road:
    """Portkey's gateway, told by headers to use the stub as an OpenAI upstream."""
    port = free_port()
    program = around.peers["portkey"] / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    child = around.children.start("portkey", ["node", str(program), f"--port={port}", "--headless"])
    wait_for_port(child, port, timeout_s=START_TIMEOUT_S)
    headers = {
        "authorization": "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{around.stub_url}/v1",
    }
    return Road(name="portkey", base_url=f"http://127.0.0.1:{port}", headers=headers, processes={"gateway": child})


def start_bare(around: Surroundings, manner: str) -> Road:
    """One aiohttp process without Arriero: `proxy`, `parse` or `arq` (see bare_aiohttp.py)."""
    port = free_port()
    command = [str(peer_python(around.peers["arq"])), "-m", "tests.bench.bare_aiohttp", manner, "--port", str(port)]
    command += ["--upstream", around.stub_url, "--redis", around.redis_url]
    child = around.children.start(f"bare-{manner}", command)
    wait_for_port(child, port, timeout_s=START_TIMEOUT_S)
    return Road(name=f"bare-{manner}", base_url=f"http://127.0.0.1:{port}", processes={"gateway": child})


ROADS: dict[str, Callable[[Surroundings], Road]] = {
    "arriero": start_arriero,
    "litellm": start_litellm,
    "portkey": start_portkey,
    "bare-proxy": lambda around: start_bare(around, "proxy"),
    "direct": start_direct,
}
