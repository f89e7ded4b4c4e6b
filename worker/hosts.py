"""The backends of this worker: which are least busy, how hard each may be driven, what their models can do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from shared.backends.base import Backend, LoadedModel
from shared.errors import ArrieroError, BackendProtocolError, BackendTimeout, BackendUnreachable
from shared.model_names import same
from worker.fallback import Route
from worker.pacing import Pace

MISSING_FOR_S = 30.0
"""How long a host that did not have a model is asked last for it."""
CAPABILITIES_FOR_S = 60.0


def preference(in_flight: Sequence[int], attempt: int) -> list[int]:
    """Indexes of the hosts in the order to try: the least busy first.

    Ties rotate with the attempt, so a retry goes elsewhere.
    """
    count = len(in_flight)
    return sorted(range(count), key=lambda i: (in_flight[i], (i - (attempt - 1)) % count))


class _Host:
    """One backend and what this worker knows of it."""

    def __init__(self, backend: Backend, ceiling: int) -> None:
        self.backend = backend
        self.pace = Pace(ceiling)
        self.in_flight = 0
        self.calls: Counter[str] = Counter()
        """Of them, those to each model."""
        self.missing: dict[str, float] = {}
        self.capabilities: dict[str, Collection[str]] = {}
        self.capabilities_until = 0.0


@dataclass(slots=True, frozen=True)
class Lease:
    """One call's use of a backend. `answers` is called with the first piece of the answer."""

    backend: Backend
    answers: Callable[[], None]


def is_gone(error: ArrieroError) -> bool:
    """Whether the error means that the host may not be there any more."""
    return isinstance(error, BackendUnreachable) or (isinstance(error, BackendProtocolError) and error.broke_off)


class Hosts:
    """The configured backends. `slots` is how many calls this worker can have in flight on one of them."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        probe_timeout_s: float,
        slots: int = 1000,
        on_answer: Callable[[str, str], None] = lambda host, model: None,
    ) -> None:
        """`on_answer` is called with host and model when a call begins to be answered."""
        self._hosts: dict[str, _Host] = {}
        for backend in backends:
            name = backend.name
            if name in self._hosts:  # two paths on one address
                name = f"{name}-{len(self._hosts) + 1}"
            self._hosts[name] = _Host(backend, slots)
        self._probe_timeout_s = probe_timeout_s
        self._given_back = asyncio.Event()
        self._on_answer = on_answer

    def names(self) -> list[str]:
        return list(self._hosts)

    def loads_models(self, name: str) -> bool:
        """Whether the host takes models into a memory that we can look into."""
        return self._hosts[name].backend.loads_models

    async def loaded_on(self, name: str) -> list[LoadedModel]:
        """Models in memory there. Raises what the backend raises."""
        return await self._hosts[name].backend.loaded()

    def lacks(self, name: str, model: str) -> bool:
        """Whether the host said a moment ago that it does not have the model."""
        return self._hosts[name].missing.get(same(model), 0.0) > time.monotonic()

    # -- choosing ---------------------------------------------------------------------------------------------------

    def preferred(self, model: str, attempt: int) -> list[str]:
        """The hosts' names, best first for this attempt; those that did not have the model a moment ago last."""
        names = list(self._hosts)
        order = preference([host.in_flight for host in self._hosts.values()], attempt)
        return sorted((names[i] for i in order), key=lambda name: self.lacks(name, model))

    def asks_loaded(self, name: str) -> Callable[[], Awaitable[Sequence[LoadedModel]]]:
        """How to ask the host which models it has in memory."""
        return self._hosts[name].backend.loaded

    def note_missing(self, route: Route) -> None:
        """The host said that it does not have the model."""
        missing = self._hosts[route.host].missing
        now = time.monotonic()
        if len(missing) > 1000:
            self._hosts[route.host].missing = missing = {name: due for name, due in missing.items() if due > now}
        missing[same(route.model)] = now + MISSING_FOR_S

    async def capabilities(self, route: Route) -> Collection[str]:
        """What the model can do there, in Ollama's words; empty where the host does not say."""
        host = self._hosts[route.host]
        if time.monotonic() >= host.capabilities_until:
            try:
                async with asyncio.timeout(self._probe_timeout_s):
                    known = await host.backend.models()
            except (ArrieroError, TimeoutError):
                return ()
            host.capabilities = {same(info.name): info.capabilities for info in known}
            host.capabilities_until = time.monotonic() + CAPABILITIES_FOR_S
        return host.capabilities.get(same(route.model), ())

    # -- pacing -----------------------------------------------------------------------------------------------------

    def pause_s(self, name: str) -> float | None:
        """None when the host may be called now; else the seconds it asked to be left alone, 0 if it is only full."""
        host, now = self._hosts[name], time.monotonic()
        return None if host.pace.has_room(now, host.in_flight) else host.pace.pause_s(now)

    def busy(self, name: str, retry_after_s: float | None) -> None:
        """The host refused a call because it is at its limit."""
        host = self._hosts[name]
        host.pace.busy(time.monotonic(), host.in_flight + 1, retry_after_s)

    def served(self, name: str) -> None:
        """The host answered a call."""
        self._hosts[name].pace.served()

    def under_way(self, route: Route) -> int:
        """How many calls of this worker to that model there have not ended."""
        return self._hosts[route.host].calls[same(route.model)]

    async def wait_for_room(self, limit_s: float) -> None:
        """Until some call of this worker ends, or for `limit_s`."""
        self._given_back.clear()
        try:
            async with asyncio.timeout(limit_s):
                await self._given_back.wait()
        except TimeoutError:
            pass

    @contextmanager
    def lease(self, route: Route) -> Iterator[Lease]:
        """A backend for one call. The block ends with the call, by the error that ended it if there is one."""
        host, model = self._hosts[route.host], same(route.model)
        host.in_flight += 1
        host.calls[model] += 1
        call = host.pace.begins()
        lease = Lease(host.backend, lambda: self._answers_again(host, call, route))
        try:
            yield lease
            lease.answers()
        except ArrieroError as error:
            if is_gone(error):
                host.pace.unreachable()
            elif not isinstance(error, BackendTimeout):
                lease.answers()
            raise
        finally:
            host.in_flight -= 1
            host.calls[model] -= 1
            if not host.calls[model]:
                del host.calls[model]  # callers choose model names
            host.pace.ends(call)
            self._given_back.set()

    def _answers_again(self, host: _Host, call: int, route: Route) -> None:
        self._on_answer(route.host, route.model)
        if host.pace.answers(call):
            self._given_back.set()

    # -- asking all -------------------------------------------------------------------------------------------------

    async def is_up(self) -> bool:
        """Whether at least one backend answers its probe."""
        return any(await asyncio.gather(*(self._answers(host.backend) for host in self._hosts.values())))

    async def _answers(self, backend: Backend) -> bool:
        try:
            async with asyncio.timeout(self._probe_timeout_s):
                await backend.version()
        except (ArrieroError, TimeoutError):
            return False
        return True

    async def loaded(self) -> list[LoadedModel]:
        """Models in memory on all backends that answer."""
        found = await asyncio.gather(*(self._loaded(host.backend) for host in self._hosts.values()))
        return [model for models in found for model in models]

    async def _loaded(self, backend: Backend) -> list[LoadedModel]:
        try:
            async with asyncio.timeout(self._probe_timeout_s):
                return await backend.loaded()
        except (ArrieroError, TimeoutError):
            return []

    async def aclose(self) -> None:
        for host in self._hosts.values():
            await host.backend.aclose()
