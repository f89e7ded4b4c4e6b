"""A whole Arriero on free ports: Redis with an append-only file, a simulator, gateways, workers."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.queue.keys import Keys
from tests.chaos.processes import Process, Processes
from tests.chaos.proxy import Proxy
from tests.house.redis_server import DATABASE, free_port, server_binary

CHAT_MODEL = "llama3.2"
EMBEDDING_MODEL = "nomic-embed-text"
TOKENS_PER_SECOND = 200
READY_WITHIN_S = 45.0
"""Generous: on a busy machine a dozen interpreters may start at the same moment."""


@dataclass(slots=True, eq=False)
class Gateway:
    process: Process
    url: str


@dataclass(slots=True, eq=False)
class Worker:
    process: Process
    metrics_url: str


@dataclass(slots=True, eq=False)
class Daemon:
    """A manager or a monitor."""

    process: Process
    url: str


async def until(condition: Callable[[], Awaitable[object]], timeout_s: float, what: str) -> None:
    """Return once the condition holds. Raises TimeoutError naming `what`."""
    give_up_at = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        await asyncio.sleep(0.02)


class Stack:
    """`async with Stack(...) as stack`: everything it started is gone at the end of the block.

    Logs stay in `logs` while the run lasts, or for good when `keep` names a folder.
    """

    def __init__(
        self,
        *,
        keep: Path | None = None,
        fsync: str = "everysec",
        simulator_options: Sequence[str] = (),
        worker_env: Mapping[str, str] | None = None,
        gateway_env: Mapping[str, str] | None = None,
        redis_options: Sequence[str] = (),
    ) -> None:
        self._exit = AsyncExitStack()
        self._directory = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="arriero-chaos-")))
        logs = keep or self._directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.processes = Processes(logs)
        self.fsync = fsync
        self._redis_options = redis_options
        self.keys = Keys("gw")
        self._redis_port = free_port()
        self.redis_url = f"redis://127.0.0.1:{self._redis_port}/{DATABASE}"
        self._simulator_port = free_port()
        self.simulator_url = f"http://127.0.0.1:{self._simulator_port}"
        self._simulator_options = simulator_options
        # The simulator takes as many calls as come, so the workers' slots are the limit.
        self._worker_env = {"WORKER_CONCURRENCY": "8", "MAX_CONCURRENT_REQUESTS": "512", **(worker_env or {})}
        self._gateway_env = dict(gateway_env or {})
        self._numbers = itertools.count(1)
        self.redis_process: Process | None = None
        self.gateways: list[Gateway] = []
        self.workers: list[Worker] = []

    async def __aenter__(self) -> Self:
        try:
            self._exit.callback(self.processes.end_all)
            self.http = await self._exit.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, force_close=True),
                    timeout=aiohttp.ClientTimeout(total=120.0),
                )
            )
            self.redis: Redis = Redis.from_url(self.redis_url, socket_timeout=5.0)
            self._exit.push_async_callback(self.redis.aclose, close_connection_pool=True)
            await asyncio.gather(self.start_redis(), self._start_simulator())
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    # -- Redis ------------------------------------------------------------------------------------------------------

    async def start_redis(self) -> float:
        """Start the server on its port and directory, again or for the first time. When it answered, monotonic s."""
        self.redis_process = self.processes.start(
            "redis",
            [
                *(server_binary(), "--port", str(self._redis_port), "--bind", "127.0.0.1", "--save", ""),
                *("--dir", str(self._directory), "--appendonly", "yes", "--appendfsync", self.fsync),
                *self._redis_options,
            ],
        )
        await until(self._redis_answers, 20.0, "Redis")
        return time.monotonic()

    async def _redis_answers(self) -> bool:
        try:
            return bool(await self.redis.ping())
        except (RedisError, OSError):
            return False

    def kill_redis(self) -> None:
        assert self.redis_process is not None
        self.redis_process.kill()

    @property
    def append_only_file(self) -> Path:
        """The part of it that Redis is writing to."""
        return max(self._directory.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))

    # -- proxies ----------------------------------------------------------------------------------------------------

    async def proxy_redis(self) -> tuple[Proxy, dict[str, str]]:
        """A proxy before Redis, and the setting with which a gateway or worker goes through it."""
        proxy = await self._exit.enter_async_context(Proxy(self._redis_port))
        return proxy, {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/{DATABASE}"}

    # -- the others -------------------------------------------------------------------------------------------------

    async def _start_simulator(self) -> None:
        options = ["--tokens-per-second", str(TOKENS_PER_SECOND), "--parallel", "512", "--load-seconds", "0"]
        command = [sys.executable, "-m", "infra.simulator", "--port", str(self._simulator_port), *options]
        self.processes.start("simulator", [*command, *self._simulator_options])
        await self._until_answers(self.simulator_url + "/api/version", "the simulator")

    async def start_gateway(self, module: str = "gateway", **env: str) -> Gateway:
        """A gateway that answers. `env` is added to the stack's settings of gateways."""
        port = free_port()
        settings = {**self._env(), **self._gateway_env, **env, "GATEWAY_PORT": str(port)}
        process = self.processes.start("gateway", [sys.executable, "-m", module], settings)
        gateway = Gateway(process, f"http://127.0.0.1:{port}")
        await self._until_answers(gateway.url + "/health/live", "a gateway", process)
        self.gateways.append(gateway)
        return gateway

    async def start_worker(self, module: str = "worker", **env: str) -> Worker:
        """A worker that has announced itself in Redis. `env` is added to the stack's settings of workers."""
        port = free_port()
        name = f"w{next(self._numbers)}"
        settings = {**self._env(), **self._worker_env, **env, "WORKER_PORT": str(port), "WORKER_ID": name}
        process = self.processes.start(f"worker-{name}", [sys.executable, "-m", module], settings)
        prefix = f"{name}.{process.pid}.".encode()

        async def announced() -> bool:
            if not process.is_running:
                raise RuntimeError(f"worker {name} ended while it started: {process.last_words()}")
            try:
                announcements = await self.redis.zrange(self.keys.workers, 0, -1)
            except (RedisError, OSError):  # it may be down just now
                return False
            return any(known.startswith(prefix) for known in announcements)

        await until(announced, READY_WITHIN_S, f"worker {name}")
        worker = Worker(process, f"http://127.0.0.1:{port}/metrics")
        self.workers.append(worker)
        return worker

    async def start_workers(self, count: int, **env: str) -> list[Worker]:
        return list(await asyncio.gather(*(self.start_worker(**env) for _ in range(count))))

    async def start_daemon(self, module: str, **env: str) -> Daemon:
        """A `manager` or a `monitor`, once it answers. `env` is added to the stack's settings."""
        port = free_port()
        settings = {**self._env(), **env, f"{module.upper()}_PORT": str(port)}
        process = self.processes.start(module, [sys.executable, "-m", module], settings)
        daemon = Daemon(process, f"http://127.0.0.1:{port}")
        await self._until_answers(daemon.url + "/health/live", f"a {module}", process)
        return daemon

    def _env(self) -> dict[str, str]:
        return {
            "REDIS_URL": self.redis_url,
            "OLLAMA_BASE_URL": self.simulator_url,
            "OLLAMA_TEMPERATURE": "",  # the oracle asks as the clients do, without one
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "WARNING",
        }

    async def _until_answers(self, url: str, what: str, process: Process | None = None) -> None:
        async def answers() -> bool:
            if process is not None and not process.is_running:
                raise RuntimeError(f"{what} ended while it started: {process.last_words()}")
            try:
                async with self.http.get(url) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers, READY_WITHIN_S, what)

    # -- looking ----------------------------------------------------------------------------------------------------

    async def calls(self) -> dict[str, list[float]]:
        """The simulator's own log: when each job was executed, Unix seconds, by job id. A call that met no model (404)
        executed nothing."""
        found: dict[str, list[float]] = {}
        for call in await self.call_log():
            if call["request_id"] and call["status"] != 404:
                for job_id in call["request_id"].split(","):  # a batch names all of its jobs
                    found.setdefault(job_id, []).append(call["at"])
        return found

    async def call_log(self) -> list[dict[str, Any]]:
        """The simulator's log of calls, as it gives it; infra/simulator/calls.py has the fields."""
        async with self.http.get(self.simulator_url + "/_sim/calls", params={"event": "call"}) as response:
            calls: list[dict[str, Any]] = (await response.json())["calls"]
        return calls

    async def counter(self, name: str) -> int:
        """One of the queue's counters, such as `running`."""
        return int(await self.redis.hget(self.keys.counters, name) or 0)  # type: ignore[misc]  # redis-py 5

    async def record(self, job_id: str) -> dict[bytes, bytes]:
        """A job's record, undigested."""
        fields: dict[bytes, bytes] = await self.redis.hgetall(self.keys.record(job_id))  # type: ignore[misc]  # redis-py 5
        return fields

    async def metric(self, worker: Worker, name: str) -> float:
        """The sum of a counter's series on a worker's metrics page."""
        async with self.http.get(worker.metrics_url) as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ")))
