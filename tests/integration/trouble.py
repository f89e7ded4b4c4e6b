"""A stack under load on which everything goes wrong that a panel shows or an alert tells of."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.house.requirements import ROOT
from tests.integration.processes import eventually
from tests.integration.stack import LONG, SLOTS, Stack, chat_body, submit
from tests.monitor.test_gpu import CARD, STUB_FOLDER

FULL_CARD = {**CARD, "use": 100, "memory_used": 79_000_000_000, "celsius": 91}
MAX_QUEUE_DEPTH = 60
MAX_CONNECTIONS = 50
LEASE_S = 8.0
SETTINGS = {
    "MODEL_PRELOAD_LIST": "mistral",
    "FALLBACK_MODELS": "mistral",
    "OLLAMA_MAX_RETRIES": "2",
    "CIRCUIT_BREAKER_FAILURES": "3",
    "CIRCUIT_BREAKER_OPEN_TIME": "1s",
    "CIRCUIT_BREAKER_MAX_OPEN_TIME": "2s",
    "MONITOR_INTERVAL": "500ms",
    "MEMORY_CLEANUP_INTERVAL": "1",
    "ALERT_DURATION": "0",
    "ALERT_CLEAR_DURATION": "0",
}


class Scene:
    """The stack, and the acts of the play. Each act leaves behind what the next one needs."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self._gpus = folder / "nvml.json"
        self.show_gpus([FULL_CARD])
        self.gateway = stack.gateway(
            MAX_QUEUE_DEPTH=str(MAX_QUEUE_DEPTH), MAX_CONNECTIONS=str(MAX_CONNECTIONS), HEADER_TIMEOUT="1s"
        )
        self.workers = [stack.worker(WORKER_ID=f"llm-worker-{number}") for number in (1, 2)]
        self.manager = stack.daemon("manager")
        path = f"{STUB_FOLDER}{os.pathsep}{ROOT}"
        # A receiver that takes nothing: the port is the gateway's, which has no such page.
        self.monitor = stack.daemon(
            "monitor", PYTHONPATH=path, NVML_STUB=str(self._gpus), ALERT_SLACK_URL=f"{self.gateway.url}/nothing"
        )
        self.key = ""
        self.key_file = folder / "metrics_key"

    def wait(self) -> None:
        """Until all are up, and there are keys for clients and for Prometheus."""
        self.stack.wait()
        self.key = self.stack.create_key("default", "admin")["key"]
        self.key_file.write_text(self.stack.create_key("default", "operator")["key"])

    @property
    def targets(self) -> dict[str, list[str]]:
        def address(url: str) -> str:
            return url.removeprefix("http://")

        return {
            "gateway": [address(self.gateway.url)],
            "worker": [address(worker.url) for worker in self.workers],
            "manager": [address(self.manager.url)],
            "monitor": [address(self.monitor.url)],
        }

    def show_gpus(self, gpus: list[dict[str, object]] | None) -> None:
        """What the stand-in for NVML says from now on; None: that it is broken."""
        fresh = self._gpus.with_suffix(".new")
        fresh.write_text(json.dumps({"broken": True} if gpus is None else {"gpus": gpus}))
        fresh.replace(self._gpus)

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Clients that ask one thing after the other."""
        stop = threading.Event()
        with ThreadPoolExecutor(3) as clients:
            asking = [clients.submit(self._ask, stop, stream) for stream in (False, True)]
            asking.append(clients.submit(self._embed, stop))
            try:
                yield
            finally:
                stop.set()
                for one in asking:
                    one.result()

    def _ask(self, stop: threading.Event, stream: bool) -> None:
        request = chat_body("Why do llamas hum?", stream=stream, max_tokens=8)
        self._repeat(stop, "/v1/chat/completions", request)

    def _embed(self, stop: threading.Event) -> None:
        self._repeat(stop, "/v1/embeddings", {"model": "nomic-embed-text", "input": "llama"})

    def _repeat(self, stop: threading.Event, path: str, request: dict[str, object]) -> None:
        with self.stack.http(self.key) as client:
            while not stop.wait(0.05):
                # While things go wrong an answer may not come; asking is what counts.
                with contextlib.suppress(httpx.HTTPError):
                    client.post(path, json=request, timeout=6.0)

    def order_models(self) -> None:
        """A download, loading, unloading; a first call that has to load its model."""
        for order in ("pull", "load", "unload"):
            self.stack.command("models", order, "phi3", ARRIERO_API_KEY=self.key)
        with self.stack.http(self.key) as client:
            for _ in range(2):  # the second is answered from the response cache
                answer = client.post(
                    "/v1/chat/completions", json=chat_body("Load me", "phi3"), headers={"x-arriero-cache": "use"}
                )
                assert answer.status_code == 200, answer.text

    def annoy_the_gateway(self) -> None:
        """More connections than it takes, a head that does not come, a client that goes away."""
        host, port = self.targets["gateway"][0].split(":")
        with contextlib.ExitStack() as open_for_now:
            for _ in range(MAX_CONNECTIONS + 5):
                with contextlib.suppress(OSError):
                    open_for_now.enter_context(socket.create_connection((host, int(port)), timeout=2))
            time.sleep(1.5)  # HEADER_TIMEOUT passes
        with (
            self.stack.http(self.key) as client,
            client.stream("POST", "/v1/chat/completions", json=chat_body(f"Never mind {LONG}", stream=True)) as answer,
        ):
            next(answer.iter_bytes())

    def fail_calls(self) -> None:
        """One model fails and another stands in; then all fail, until the simulator behaves again."""
        simulator = self.stack.simulator
        with self.stack.http(self.key) as client:
            simulator.misbehave("status", status=500, match={"model": "llava"})
            client.post("/v1/chat/completions", json=chat_body("Stand in", "llava"))
            simulator.misbehave("status", status=500)
            eventually(lambda: _counted(client, "dead_lettered"), 20, "a job failed for good")

    def hurry(self) -> None:
        """More jobs than slots, each of half a second: some wait while others end."""
        with self.stack.http(self.key) as client:
            for number in range(MAX_QUEUE_DEPTH // 2):
                submit(client, chat_body(f"Hurry {number} [tokens=250]"))

    def crowd(self) -> None:
        """One job for a model that is then deleted; more long ones than there are slots, then than there is room."""
        with self.stack.http(self.key) as client:
            submit(client, chat_body("Where are you?", "phi3"), delay_seconds=300)
            url = f"{self.stack.simulator.url}/api/delete"
            httpx.request("DELETE", url, json={"model": "phi3"}, trust_env=False).raise_for_status()
            for _ in range(MAX_QUEUE_DEPTH + 3 * SLOTS):
                client.post("/v1/jobs", json={"type": "chat.completion", "request": chat_body(f"Count {LONG}")})

    def freeze(self) -> None:
        """A worker stands still for longer than its lease, with jobs, and goes on; then it dies."""
        frozen = self.workers[1]
        with self.stack.http(self.key) as client:
            eventually(lambda: _running(client, "llm-worker-2"), 20, "jobs at the second worker")
            os.kill(frozen.pid, signal.SIGSTOP)
            try:
                eventually(lambda: _counted(client, "crashed"), LEASE_S + 7, "its leases have ended")
            finally:
                os.kill(frozen.pid, signal.SIGCONT)
            eventually(lambda: _counted(client, "stale_writes"), 10, "it writes what is no longer its own")

    def clear(self) -> None:
        self.stack.command("queue", "clear", "--yes", ARRIERO_API_KEY=self.key)

    def end_workers(self) -> None:
        """One crashes, the other takes its leave."""
        self.workers[1].kill()
        self.workers[0].stop()


def _running(client: httpx.Client, worker: str) -> bool:
    return any(one["running"] and worker in one["id"] for one in client.get("/admin/queue").json()["workers"])


def _counted(client: httpx.Client, event: str) -> bool:
    return bool(client.get("/admin/queue").json()["counters"].get(event))
