"""`arriero up` from beginning to end: check, start, prove with one chat, watch, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from arriero.errors import ArrieroClientError
from arriero.settings import StackSettings, child_environment, command_name
from arriero.stack import farewell, ports, redis_server, smoke
from arriero.stack.child import Child
from arriero.stack.plan import STOP_REDIS, Plan, service_plans, simulator_plan, without_ollama_urls
from arriero.stack.runfile import (
    OWNER_ONLY,
    RunFile,
    close_to_others,
    end_leftovers,
    read_run_file,
    remove_run_file,
    take_lock,
    without_password,
    write_run_file,
)
from arriero.stack.supervisor import Member, StackFailed, Supervisor
from arriero.stack.terminal import Terminal
from shared.services.settings import NO_OLLAMA
from shared.settings import BaseServiceSettings
from shared.settings_sources import find, read_layers

READY_WITHIN_S = 60.0
REDIS_ANSWERS_WITHIN_S = 3.0
AOF_LOADED_WITHIN_S = 60.0
FIRST_CHAT_WITHIN_S = 300.0
OWN_REDIS = {"redis_username": "", "redis_password": "", "redis_password_file": "", "redis_sentinels": ""}
"""The started server has no password; one from the environment would be refused by it."""
EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line of `arriero up` says."""

    workers: int = 2
    smoke: bool = True
    exit_after_smoke: bool = False
    quiet: bool = False


@dataclass(slots=True)
class Session:
    """One run of the stack out of `directory`."""

    settings: StackSettings
    options: UpOptions
    directory: Path
    terminal: Terminal
    run: RunFile
    supervisor: Supervisor = field(init=False)
    redis_settings: BaseServiceSettings = field(init=False)
    ollama_hosts: list[str] = field(init=False)
    ready: bool = False
    needs_key: bool = False

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.terminal, self._note_processes)
        self.redis_settings = BaseServiceSettings()
        self.ollama_hosts = list(self.redis_settings.ollama_hosts)

    async def bring_up(self) -> int:
        """Everything until the stack is to stop. Raises StackFailed with one line that says what to do."""
        began = time.monotonic()
        self._refuse_busy_ports()
        redis_url = await self._redis()
        ollama_urls = await self._ollama()
        services = "" if ollama_urls == self.ollama_hosts else _services_of_others()
        with self._timed("services"):
            members = [
                await self._start(plan)
                for plan in service_plans(self.settings, redis_url, ollama_urls, self.options.workers, services)
            ]
            simulators = [member for member in self.supervisor.members if member.child.name == "simulator"]
            self._note_processes()
            await self.supervisor.wait_ready([*simulators, *members], READY_WITHIN_S)
        self._note_processes()
        model = await self._first_chat() if self.options.smoke else ""
        self.ready = True
        for line in farewell.lines(self.run, model, command_name(), time.monotonic() - began, needs_key=self.needs_key):
            self.terminal.say(line)
        if self.options.exit_after_smoke:
            return EXIT_OK
        await self.supervisor.watch()
        raise AssertionError("watch() returns only by an error")

    def _refuse_busy_ports(self) -> None:
        wanted = [plan for plan in service_plans(self.settings, "", [], 1) if plan.port]
        for plan in wanted:
            if not ports.is_free(plan.port, self.settings.gateway_host if plan.name == "gateway" else "127.0.0.1"):
                raise StackFailed(
                    f"port {plan.port} ({plan.name}) is in use{ports.holder(plan.port)}: free it, or choose another "
                    f"with {plan.port_variable}, e.g. {plan.port_variable}={plan.port + 1000} make run"
                )

    async def _redis(self) -> str:
        """Redis' URL, started if none is configured; empty when the services' own settings are to be used."""
        if self.settings.redis_url or self.settings.redis_sentinels:
            with self._timed("Redis"):
                self.run.redis_url = without_password(self.settings.redis_url)
                await self._redis_answers("the Redis of REDIS_URL", REDIS_ANSWERS_WITHIN_S)
            return ""
        try:
            choice = redis_server.choose_server()
        except LookupError as exc:
            raise StackFailed(str(exc)) from exc
        data_dir = self.directory / "redis"
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(OWNER_ONLY)
        with self._timed("Redis"):
            url = await self._start_redis(choice, ports.preferred_or_free(self.settings.arriero_redis_port), data_dir)
            if not url:
                # Somebody else took the port between our look and our server's.
                url = await self._start_redis(choice, ports.any_free(), data_dir)
        if not url:
            raise StackFailed("no port could be had for Redis: start one yourself and set REDIS_URL")
        self.run.redis_url = url
        return url

    async def _start_redis(self, choice: redis_server.RedisChoice, port: int, data_dir: Path) -> str:
        """The server's URL; empty when another server answers at `port`."""
        self.terminal.say(f"No REDIS_URL set: starting {choice.origin} on port {port}, data in {data_dir}")
        url = f"redis://127.0.0.1:{port}/{redis_server.DATABASE}"
        self.redis_settings = BaseServiceSettings.model_validate(OWN_REDIS | {"redis_url": url})
        command = redis_server.server_command(choice.program, port, data_dir)
        member = await self._start(Plan("redis", command, STOP_REDIS, 0.7), ready_path="")
        found = await self._redis_answers(choice.origin, AOF_LOADED_WITHIN_S)
        if found.pid == member.child.pid:
            return url
        self.supervisor.members.remove(member)
        await member.child.stop(member.grace_s)
        return ""

    async def _redis_answers(self, which: str, timeout_s: float) -> redis_server.Answering:
        try:
            found = await redis_server.wait_until_answering(self.redis_settings, timeout_s)
        except (TimeoutError, ValueError) as exc:
            raise StackFailed(
                f"{which} does not answer ({exc}): start it, or unset REDIS_URL to have one started"
            ) from exc
        if not found.is_new_enough:
            raise StackFailed(f"{which} is version {found.version}, and {redis_server.OLDEST_MAJOR} or later is needed")
        return found

    async def _ollama(self) -> list[str]:
        """The model servers to use: the configured ones if any answers, else a simulator. None where Ollama is off."""
        hosts = self.ollama_hosts
        if not hosts:
            self.terminal.say(NO_OLLAMA)
            return []
        answering = [url for url in hosts if await _answers(url)]
        if answering:
            self.terminal.say(f"Ollama answers at {', '.join(answering)}")
            self.run.ollama_urls = hosts
            return hosts
        port = ports.preferred_or_free(ports.local_port(hosts[0]))
        self.terminal.say(f"No Ollama answers at {', '.join(hosts)}: starting the simulator on port {port}.")
        self.terminal.say(
            "Its answers are SIMULATED text. For real ones: install Ollama, `ollama pull llama3.2`, start again."
        )
        await self._start(simulator_plan(port), ready_path="/api/version")
        self.run.ollama_urls = [f"http://127.0.0.1:{port}"]
        return self.run.ollama_urls

    async def _first_chat(self) -> str:
        key = self.settings.arriero_api_key.get_secret_value()
        try:
            with self.terminal.without_logs():
                async with smoke.api_key(self.redis_settings, key) as usable_key:
                    self.needs_key = bool(usable_key)
                    model, took_s = await smoke.first_chat(
                        self.terminal,
                        self.run.gateway_url,
                        usable_key,
                        self.settings.arriero_model,
                        FIRST_CHAT_WITHIN_S,
                    )
        except smoke.NoModel:
            self.terminal.say(
                'Ollama has no model that can chat yet: `ollama pull llama3.2`, then `arriero chat "Hello"`.'
            )
            if self.options.exit_after_smoke:
                raise StackFailed("the first chat had no model to ask") from None
            return ""
        except (ArrieroClientError, TimeoutError) as exc:
            raise StackFailed(f"the first chat failed: {smoke.why(exc)}") from exc
        self.terminal.say(f"Answered in {took_s:.2f} s.")
        return model

    async def _start(self, plan: Plan, ready_path: str = "/health/ready") -> Member:
        child = Child(plan.name, plan.argv, child_environment(dict(plan.environment)), self._log)
        member = Member(child, plan.stop_rank, plan.grace_s, ready_path)
        await self.supervisor.start(member)
        return member

    def _log(self, name: str, line: str) -> None:
        # Redis' advice on a kernel setting, meant for servers, is the first thing a newcomer would see.
        if not (name == "redis" and "overcommit" in line):
            self.terminal.log(name, line)

    def _note_processes(self) -> None:
        for member in self.supervisor.members:
            child = member.child
            self.run.pids[child.name], self.run.born[child.name] = child.pid, child.born
            if child.url:
                self.run.urls[child.name] = child.url
        self.run.gateway_url = self.run.urls.get("gateway", "")
        write_run_file(self.directory, self.run)

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.terminal.say(f"{step} ready after {time.monotonic() - began:.1f} s")


async def run_stack(
    settings: StackSettings, options: UpOptions, directory: Path, terminal: Terminal, up_pid: int
) -> int:
    """The exit status. Whatever happens, no child is left when this returns."""
    lock = take_lock(directory)
    if lock is None:
        other = read_run_file(directory)
        known = f" (pid {other.up_pid}, gateway {other.gateway_url or 'starting'})" if other else ""
        terminal.say(
            f"arriero is already running out of {directory}{known}: stop it first, "
            "or set ARRIERO_STATE_DIR to another place"
        )
        return EXIT_FAILED
    close_to_others(directory)
    with lock:
        previous = read_run_file(directory)
        if previous is not None and (names := end_leftovers(previous)):
            terminal.say(f"ended what an earlier run left behind: {', '.join(names)}")
        session = Session(settings, options, directory, terminal, RunFile(up_pid=up_pid))
        try:
            return await _until_stopped(session)
        finally:
            remove_run_file(directory)


async def _until_stopped(session: Session) -> int:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(session.bring_up(), name="stack")
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            session.terminal.say("\nstopping (once more kills at once)")
            work.cancel()
        else:
            session.supervisor.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    try:
        return await work
    except asyncio.CancelledError:
        return EXIT_OK if session.ready else EXIT_INTERRUPTED
    except StackFailed as exc:
        session.terminal.say(f"arriero up: {exc}")
        return EXIT_FAILED
    finally:
        began = time.monotonic()
        await session.supervisor.stop()
        if session.supervisor.members:
            session.terminal.say(f"everything stopped after {time.monotonic() - began:.1f} s")


def _services_of_others() -> str:
    """SERVICES for processes that ask the simulator; empty where nothing was said of services."""
    written = find(("services",), read_layers())
    return without_ollama_urls(written.value) if written is not None and written.value else ""


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=2.0) as http:
            return (await http.get(url + "/api/version")).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
