"""A whole Arriero of real processes: a Redis server, a simulator, and the gateways and workers a test asks for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.house.redis_server import RedisServer, free_port
from tests.integration.processes import Program, clean_environment, eventually

MODELS = "llama3.2,mistral,nomic-embed-text,llava"
SLOTS = 4
"""Jobs that run at a time: the worker's concurrency, and the simulator's slots per model."""
TOKENS_PER_S = 500
LONG = "[tokens=20000]"
"""In a prompt: an answer that takes 40 s, longer than any test waits for it."""
COMMAND_LIMIT_S = 30.0


class Simulator(Program):
    """The stand-in for Ollama, and what it saw."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        arguments = ["--port", str(port), "--models", MODELS, "--parallel", str(SLOTS)]
        arguments += ["--load-seconds", "0", "--first-token-seconds", "0.01", "--tokens-per-second", str(TOKENS_PER_S)]
        super().__init__("infra.simulator", [*arguments, *options], {}, folder, self.url + "/api/version")

    def calls(self, job_id: str = "") -> list[dict[str, Any]]:
        """Inference calls, oldest first; of one job, if named: a job's id travels upstream as the request id."""
        query = {"event": "call", **({"request_id": job_id} if job_id else {})}
        answer = httpx.get(f"{self.url}/_sim/calls", params=query, trust_env=False)
        calls: list[dict[str, Any]] = answer.raise_for_status().json()["calls"]
        return [call for call in calls if call["path"] in ("/api/chat", "/api/generate", "/api/embed")]

    def was_cancelled(self, job_id: str) -> bool:
        """Whether every call of this job, at least one, was broken off by its caller."""
        calls = self.calls(job_id)
        return bool(calls) and all(call["cancelled"] for call in calls)

    def misbehave(self, kind: str, **fields: Any) -> None:
        """Set a fault; infra/simulator describes them."""
        httpx.post(f"{self.url}/_sim/faults", json={"kind": kind, **fields}, trust_env=False).raise_for_status()

    def behave(self) -> None:
        """Remove all faults."""
        httpx.delete(f"{self.url}/_sim/faults", trust_env=False).raise_for_status()


class Gateway(Program):
    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = {"GATEWAY_PORT": str(port), "DRAIN_TIMEOUT": "1", **settings}
        super().__init__("gateway", (), settings, folder, self.url + "/health/live")


class Worker(Program):
    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        ours = {"WORKER_PORT": str(port), "WORKER_DRAIN_TIMEOUT": "1", "WORKER_CONCURRENCY": str(SLOTS)}
        super().__init__("worker", (), {**ours, **settings}, folder, self.url + "/health/live")


class Daemon(Program):
    """The `manager` or the `monitor`."""

    def __init__(self, service: str, folder: Path, settings: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            service, (), {f"{service.upper()}_PORT": str(port), **settings}, folder, self.url + "/health/live"
        )


class Stack:
    """Use as a context manager. Whatever was started through it ends with it."""

    def __init__(self, *, redis: Sequence[str] = (), simulator: Sequence[str] = (), **settings: str) -> None:
        """`redis` and `simulator`: more options of theirs. `settings`: environment of every service."""
        self.redis = RedisServer(redis)
        self._simulator_options = simulator
        self._settings = settings
        self.gateways: list[Gateway] = []
        self.workers: list[Worker] = []
        self.daemons: dict[str, Daemon] = {}
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            self._root = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="arriero-stack-")))
            ending.enter_context(self.redis)
            self.simulator = Simulator(self._folder("simulator"), self._simulator_options)
            ending.callback(self.simulator.stop)
            self.simulator.start()
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def _folder(self, name: str) -> Path:
        folder = self._root / f"{name}-{len(self.gateways) + len(self.workers)}"
        folder.mkdir()
        return folder

    def settings(self, **more: str) -> dict[str, str]:
        """Environment of a service or command of this stack."""
        return {
            "REDIS_URL": self.redis.url,
            "OLLAMA_BASE_URL": self.simulator.url,
            "LOG_LEVEL": "WARNING",
            **self._settings,
            **more,
        }

    def gateway(self, **settings: str) -> Gateway:
        """Start one more gateway, without waiting for it."""
        gateway = Gateway(self._folder("gateway"), self.settings(**settings))
        self._ending.callback(gateway.stop)
        gateway.start()
        self.gateways.append(gateway)
        return gateway

    def worker(self, **settings: str) -> Worker:
        """Start one more worker, without waiting for it."""
        worker = Worker(self._folder("worker"), self.settings(**settings))
        self._ending.callback(worker.stop)
        worker.start()
        self.workers.append(worker)
        return worker

    def daemon(self, service: str, **settings: str) -> Daemon:
        """Start the `manager` or the `monitor`, without waiting for it."""
        daemon = Daemon(service, self._folder(service), self.settings(**settings))
        self._ending.callback(daemon.stop)
        daemon.start()
        self.daemons[service] = daemon
        return daemon

    def wait(self) -> None:
        """Until everything that was started is up."""
        for program in (self.simulator, *self.gateways, *self.workers, *self.daemons.values()):
            program.wait()

    @property
    def url(self) -> str:
        """The first gateway's address."""
        return self.gateways[0].url

    def http(self, key: str = "") -> httpx.Client:
        """A client of the first gateway; close it."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False)

    def command(self, *arguments: str, **settings: str) -> str:
        """What `arriero <arguments>` prints, run as a process. Raises AssertionError when it fails."""
        done = self.run(*arguments, **settings)
        assert done.returncode == 0, f"arriero {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`arriero <arguments>` as a process at the end of pipes."""
        return subprocess.run(
            [sys.executable, "-m", "arriero", *arguments],
            env=self.environment(**settings),
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )

    def environment(self, **settings: str) -> dict[str, str]:
        """A command's, told where the parts of this stack are."""
        urls = {f"ARRIERO_{service.upper()}_URL": daemon.url for service, daemon in self.daemons.items()}
        if self.gateways:
            urls["ARRIERO_URL"] = self.url
        if self.workers:
            urls["WORKER_PORT"] = self.workers[0].url.rpartition(":")[2]
        return clean_environment(self.settings(**{**urls, **settings}))

    def create_key(self, tenant: str, role: str = "inference", **settings: str) -> dict[str, Any]:
        """A new API key, with its `id` and, as `key`, its text."""
        text = self.command("keys", "create", "--tenant", tenant, "--role", role, "--json", **settings)
        key: dict[str, Any] = json.loads(text)
        return key

    @contextlib.contextmanager
    def full_slots(self, client: httpx.Client, slots: int = SLOTS) -> Iterator[list[str]]:
        """All slots busy with jobs that do not end before this block does."""
        request = chat_body(f"Count the stones {LONG}")
        busy = [submit(client, request) for _ in range(slots)]
        try:
            eventually(lambda: all(self.simulator.calls(job) for job in busy), 10, "all slots busy")
            yield busy
        finally:
            for job in busy:
                client.delete(f"/v1/jobs/{job}")


def chat_body(text: str, model: str = "llama3.2", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def submit(client: httpx.Client, request: dict[str, Any], type_: str = "chat.completion", **more: Any) -> str:
    """The id of a new job."""
    answer = client.post("/v1/jobs", json={"type": type_, "request": request, **more})
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def ended(client: httpx.Client, job_id: str, timeout_s: float = 20.0) -> dict[str, Any]:
    """A job once it has ended. Raises AssertionError if it does not."""
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", params={"wait": timeout_s}).json()
    assert job["finished_at"] is not None, f"still {job['status']} after {timeout_s:g} s"
    return job
