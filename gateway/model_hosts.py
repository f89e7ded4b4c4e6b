"""What the model hosts say of themselves, beyond the list of their models.

Answers are not kept, but everyone who asks the same while a question is under way gets its answer: however many poll, a
host is asked by one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from gateway.catalogue import HOST_LIMIT_S, nobody_answers
from shared.backends.base import LoadedModel
from shared.backends.ollama import OllamaBackend
from shared.backends.ollama_models import ModelDetails
from shared.errors import ArrieroError, BackendError, ModelNotFound
from shared.model_names import is_allowed, same
from shared.routes import Candidate
from shared.services.backends import ServiceBackends

T = TypeVar("T")


class ModelHost(Protocol):
    async def loaded(self) -> list[LoadedModel]: ...

    async def show(self, model: str) -> ModelDetails: ...

    async def version(self) -> str: ...


class ModelHosts:
    """All hosts as if they were one. Every question raises BackendUnreachable when none of them answers."""

    def __init__(self, hosts: Callable[[], Sequence[ModelHost]], allowed: Collection[str] = ()) -> None:
        """`hosts`: those of the moment. `allowed`: ALLOWED_MODELS; others are not spoken of."""
        self._hosts = hosts
        self._allowed = allowed
        self._under_way: dict[str, asyncio.Task[Any]] = {}

    async def loaded(self) -> list[LoadedModel]:
        """Models in memory, each once, the one that stays longest first."""
        return await self._once("loaded", self._loaded)

    async def details(self, model: str) -> ModelDetails:
        """Of an installed model. Raises ModelNotFound."""
        return await self._once(f"details {same(model)}", lambda: self._details(model))

    async def version(self) -> str:
        """The oldest of the hosts' versions: what it can, all of them can."""
        return await self._once("version", self._version)

    async def stop(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _once(self, question: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._under_way.get(question)
        if task is None:
            task = self._under_way[question] = asyncio.create_task(ask(), name=f"hosts {question}")
            task.add_done_callback(lambda done: self._ended(question, done))
        answer: T = await asyncio.shield(task)
        return answer

    def _ended(self, question: str, task: asyncio.Task[Any]) -> None:
        del self._under_way[question]
        if not task.cancelled():
            task.exception()  # looked at here, because everyone who waited may have left

    async def _loaded(self) -> list[LoadedModel]:
        found: dict[str, LoadedModel] = {}
        for models in await self._all(lambda host: host.loaded()):
            for model in models:
                known = found.get(same(model.name))
                if is_allowed(model.name, self._allowed) and (known is None or _until(model) > _until(known)):
                    found[same(model.name)] = model
        return sorted(found.values(), key=_until, reverse=True)

    async def _version(self) -> str:
        return min(await self._all(lambda host: host.version()), key=_numbers)

    async def _all(self, ask: Callable[[ModelHost], Awaitable[T]]) -> list[T]:
        """The answers of those who give one."""
        answers = await asyncio.gather(*(_limited(ask(host)) for host in self._hosts()), return_exceptions=True)
        given = []
        for answer in answers:
            if not isinstance(answer, BaseException):
                given.append(answer)
            elif not isinstance(answer, ArrieroError | TimeoutError):
                raise answer
        if not given:
            raise nobody_answers()
        return given

    async def _details(self, model: str) -> ModelDetails:
        missing: ModelNotFound | None = None
        for host in self._hosts():
            try:
                return await _limited(host.show(model))
            except ModelNotFound as error:
                missing = error
            except (BackendError, TimeoutError):
                continue
        raise missing or nobody_answers()


def ollama_hosts(backends: ServiceBackends) -> Sequence[ModelHost]:
    """The hosts of every service that speaks Ollama's dialect: the others do not say as much of their models."""
    found = [backend for service in backends.services for backend in backends.of(service.name)]
    return [backend for backend in found if isinstance(backend, OllamaBackend)]


async def in_memory(backends: ServiceBackends) -> Sequence[Candidate]:
    """The models in memory on our own machines, service by service."""
    hosts = [(service, host) for service in backends.services if service.local for host in backends.of(service.name)]
    answers = await asyncio.gather(*(_limited(host.loaded()) for _, host in hosts), return_exceptions=True)
    found: dict[Candidate, None] = {}
    for (service, _), answer in zip(hosts, answers, strict=True):
        if not isinstance(answer, BaseException):
            found.update(dict.fromkeys(Candidate(service.name, model.name) for model in answer))
        elif not isinstance(answer, ArrieroError | TimeoutError):
            raise answer
    return list(found)


async def _limited(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(HOST_LIMIT_S):
        return await answer


def _until(model: LoadedModel) -> float:
    """When it leaves memory, Unix seconds; 0 where the host does not say."""
    try:
        return datetime.fromisoformat(model.expires_at.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
