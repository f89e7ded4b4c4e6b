"""Carrying out operations on models: a job function of the managers' queue.

A manager that is killed in the middle loses its lease, and another one runs the operation again from its start. All of
them may be run again: a download goes on where it stopped, because the model server kept what it had, and what is
there already is left as it is. Before a model is taken from memory or disk its users are looked for once more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import Counter

from manager.imports import ImportFolder
from manager.progress import Download, Steps
from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama import OllamaBackend
from shared.backends.ollama_requests import KeepAlive
from shared.errors import ArrieroError, BadRequest, ModelNotFound, ServiceUnavailable
from shared.model_names import same
from shared.operations.orders import NO_HOSTS
from shared.queue.running import RetryLater, RunningJob
from shared.resilience.backoff import RetryPolicy, retry_delay_s
from shared.wire.codec import decode_operation, encode
from shared.wire.operations import HostOutcome, ModelOperation, OperationAnswer, OperationName

RETRIES = RetryPolicy(tries=5, base_s=1.0, cap_s=30.0)


class Users(Protocol):
    """Who needs a model, as of now."""

    async def why_kept(self, model: str, host: str) -> str:
        """Why the model must stay where it is; empty when nobody needs it there."""

    async def is_current(self, epoch: int) -> bool:
        """Whether the leader of that term still leads."""

    async def keep_alive(self, model: str) -> KeepAlive:
        """How long the model is to stay in memory."""


@dataclass(slots=True, frozen=True)
class _Task:
    """One operation on one host."""

    order: ModelOperation
    backend: OllamaBackend
    job_id: str
    steps: Steps

    @property
    def model(self) -> str:
        return self.order.model

    def say(self, status: str) -> None:
        self.steps.show(self.backend.name, status)

    def end(self, outcome: HostOutcome) -> HostOutcome:
        self.steps.end(self.backend.name, outcome.outcome)
        return outcome

    def done(self, size: int = 0) -> HostOutcome:
        return HostOutcome(host=self.backend.name, outcome="done", bytes=size)

    def unchanged(self, reason: str) -> HostOutcome:
        return HostOutcome(host=self.backend.name, outcome="unchanged", reason=reason)

    def skipped(self, reason: str) -> HostOutcome:
        return HostOutcome(host=self.backend.name, outcome="skipped", reason=reason)


class Operations:
    """The job function of `model_op`. `hosts` are the model servers by name."""

    def __init__(
        self,
        hosts: Mapping[str, OllamaBackend],
        users: Users,
        *,
        pulled: Counter,
        imports: ImportFolder,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """`changed` is called when models may be elsewhere than before."""
        self._hosts = hosts
        self._users = users
        self._pulled = pulled
        self._imports = imports
        self._changed = changed
        self._actions: dict[OperationName, Callable[[_Task], Awaitable[HostOutcome]]] = {
            "pull": self._pull,
            "update": self._update,
            "load": self._load,
            "unload": self._unload,
            "delete": self._delete,
            "import": self._import,
        }

    async def run(self, ctx: dict[str, Any], job: RunningJob) -> bytes:
        """Do it on every host it names. Raises RetryLater while a host that failed may yet do it, and the error once
        all hosts have failed for good."""
        order = decode_operation(job.raw_request)
        names = [order.host] if order.host else list(self._hosts)
        if not names:
            raise ServiceUnavailable(NO_HOSTS)
        if unknown := [name for name in names if name not in self._hosts]:
            raise BadRequest(f"This manager knows no model server {unknown[0]}. Check OLLAMA_BASE_URLS.", param="host")
        job.notes.backend, job.notes.model = order.host, order.model
        steps = Steps(job, names)
        errors: dict[str, ArrieroError] = {}

        async def on_host(name: str) -> HostOutcome:
            task = _Task(order, self._hosts[name], job.id, steps)
            try:
                return task.end(await self._actions[order.op](task))
            except ArrieroError as error:
                errors[name] = error
                return task.end(HostOutcome(host=name, outcome="failed", reason=error.message))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(on_host(name)) for name in names]
        with suppress(ArrieroError):  # readers look again by themselves before long
            await self._changed()
        for error in errors.values():
            delay_s = retry_delay_s(error, job.failures, RETRIES, repeatable=True, unit=random.random())
            if delay_s is not None and delay_s < job.time_left_s:
                raise RetryLater(error, delay_s)
        if len(errors) == len(names):
            raise next(iter(errors.values()))
        return encode(OperationAnswer(hosts=[task.result() for task in tasks]))

    # -- one host ---------------------------------------------------------------------------------------------------

    async def _pull(self, task: _Task) -> HostOutcome:
        download = Download()
        async with aclosing(task.backend.pull(task.model, request_id=task.job_id)) as stages:
            async for stage in stages:
                self._pulled.inc(download.add(stage))
                task.steps.show(task.backend.name, stage.status, download.completed_bytes, download.total_bytes)
        return task.done(download.total_bytes)

    async def _import(self, task: _Task) -> HostOutcome:
        task.say("reading")
        weights = await self._imports.weights(task.order.file)
        stages = task.backend.import_model(task.model, weights, request_id=task.job_id)
        async with aclosing(stages):
            async for stage in stages:
                task.steps.show(task.backend.name, stage.status, stage.completed_bytes, stage.total_bytes)
        return task.done(weights.size_bytes)

    async def _update(self, task: _Task) -> HostOutcome:
        before = await self._installed(task)
        if before is None:
            return task.skipped("not installed")
        outcome = await self._pull(task)
        after = await self._installed(task)
        return task.unchanged("it is the newest") if after is not None and after.digest == before.digest else outcome

    async def _load(self, task: _Task) -> HostOutcome:
        if not task.order.host and await self._installed(task) is None:
            return task.skipped("not installed")
        task.say("loading")
        keep_alive = await self._users.keep_alive(task.model)
        await task.backend.load(task.model, keep_alive=keep_alive, request_id=task.job_id)
        return task.done()

    async def _unload(self, task: _Task) -> HostOutcome:
        if await self._loaded(task) is None:
            return task.unchanged("not in memory")
        if why := await self._why_not(task):
            return task.skipped(why)
        await task.backend.unload(task.model, request_id=task.job_id)
        return task.done()

    async def _delete(self, task: _Task) -> HostOutcome:
        installed = await self._installed(task)
        if installed is None:
            return task.unchanged("not installed")
        if why := await self._why_not(task):
            return task.skipped(why)
        if await self._loaded(task) is not None:
            await task.backend.unload(task.model, request_id=task.job_id)  # the files alone would leave it in memory
        try:
            await task.backend.delete(task.model)
        except ModelNotFound:
            return task.unchanged("not installed")
        return task.done(installed.size_bytes)

    async def _why_not(self, task: _Task) -> str:
        if task.order.epoch and not await self._users.is_current(task.order.epoch):
            return "decided by a manager that no longer leads"
        return await self._users.why_kept(task.model, task.backend.name)

    # -- facts ------------------------------------------------------------------------------------------------------

    async def _installed(self, task: _Task) -> ModelInfo | None:
        return next((model for model in await task.backend.models() if same(model.name) == same(task.model)), None)

    async def _loaded(self, task: _Task) -> LoadedModel | None:
        return next((model for model in await task.backend.loaded() if same(model.name) == same(task.model)), None)
