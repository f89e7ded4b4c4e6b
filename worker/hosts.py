"""The backends of this worker: which are least busy, how hard each may be driven, what their models can do."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from shared.backends.base import Backend, CallTimeouts, LoadedModel, ModelInfo
from shared.errors import ArrieroError, BackendProtocolError, BackendTimeout, BackendUnreachable, NoLocalBackend
from shared.model_names import same
from shared.services.config import ServiceConfig
from shared.services.statistics import host_name
from worker.fallback import Route
from worker.pacing import Pace

MISSING_FOR_S = 30.0
"""How long a host that did not have a model is asked last for it."""
MODELS_FOR_S = 60.0
REMEMBERED_FOR_S = 60.0


def preference(in_flight: Sequence[int], attempt: int) -> list[int]:
    """Indexes of the hosts in the order to try: the least busy first.

    Ties rotate with the attempt, so a retry goes elsewhere.
    """
    count = len(in_flight)
    return sorted(range(count), key=lambda i: (in_flight[i], (i - (attempt - 1)) % count))


class _Host:
    """One backend and what this worker knows of it."""

    def __init__(self, backend: Backend, ceiling: int, service: ServiceConfig) -> None:
        self.backend = backend
        self.service = service
        self.leaves_at = math.inf
        """When a retired one may be forgotten, on the monotonic clock."""
        self.pace = Pace(ceiling)
        self.in_flight = 0
        self.calls: Counter[str] = Counter()
        """Of them, those to each model."""
        self.missing: dict[str, float] = {}
        self.models: dict[str, ModelInfo] = {}
        self.models_until = 0.0

    @property
    def is_retired(self) -> bool:
        """Whether its service is gone: it is not called any more."""
        return self.leaves_at < math.inf


@dataclass(slots=True, frozen=True)
class Lease:
    """One call's use of a backend. `answers` is called with the first piece of the answer."""

    backend: Backend
    answers: Callable[[], None]


def is_gone(error: ArrieroError) -> bool:
    """Whether the error means that the host may not be there any more."""
    return isinstance(error, BackendUnreachable) or (isinstance(error, BackendProtocolError) and error.broke_off)


OUR_OLLAMA = ServiceConfig.model_validate({"name": "ollama"})


class Hosts:
    """The backends of all services. `slots` is how many calls this worker can have in flight on one of them."""

    def __init__(
        self,
        backends: Sequence[Backend] = (),
        *,
        probe_timeout_s: float,
        slots: int = 1000,
        on_answer: Callable[[str, str], None] = lambda host, model: None,
    ) -> None:
        """`backends`: those of a plain Ollama service; others come by `put`. `on_answer` is called with host and model
        when a call begins to be answered."""
        self._hosts: dict[str, _Host] = {}
        self._retired: dict[str, _Host] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._slots = slots
        self._probe_timeout_s = probe_timeout_s
        self._given_back = asyncio.Event()
        self._on_answer = on_answer
        self.put(OUR_OLLAMA, backends)

    # -- coming and going -------------------------------------------------------------------------------------------

    def put(self, service: ServiceConfig, backends: Sequence[Backend]) -> None:
        """Add a service's backends, each under a name of its own."""
        for backend in backends:
            name = host_name(backend.name, service.name, self._hosts)
            self._hosts[name] = _Host(backend, self._slots, service)

    def retire(self, service: str) -> None:
        """Send a service's backends no more calls; each is closed once its last one has ended."""
        now = time.monotonic()
        # Whoever chose one of them a moment ago still asks for it by its name.
        self._retired = {name: host for name, host in self._retired.items() if host.in_flight or now < host.leaves_at}
        for name in self.of(service):
            host = self._retired[name] = self._hosts.pop(name)
            host.leaves_at = now + REMEMBERED_FOR_S
            self._close_if_idle(host)

    def _close_if_idle(self, host: _Host) -> None:
        if host.is_retired and not host.in_flight:
            task = asyncio.create_task(host.backend.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _of(self, name: str) -> _Host:
        """The host of that name, also one that is only there for a call that has not ended."""
        return self._hosts.get(name) or self._retired[name]

    def of(self, service: str) -> list[str]:
        """The names of a service's hosts."""
        return [name for name, host in self._hosts.items() if host.service.name == service]

    def service_of(self, name: str) -> ServiceConfig:
        return self._of(name).service

    # -- what they are ----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        return list(self._hosts)

    def loads_models(self, name: str) -> bool:
        """Whether the host takes models into a memory that we can look into."""
        return self._of(name).backend.loads_models

    async def loaded_on(self, name: str) -> list[LoadedModel]:
        """Models in memory there. Raises what the backend raises."""
        return await self._of(name).backend.loaded()

    def lacks(self, name: str, model: str) -> bool:
        """Whether the host said a moment ago that it does not have the model."""
        return self._of(name).missing.get(same(model), 0.0) > time.monotonic()

    # -- choosing ---------------------------------------------------------------------------------------------------

    def preferred(
        self, model: str, attempt: int, service: str = OUR_OLLAMA.name, *, swap: Callable[[str], int] = lambda name: 0
    ) -> list[str]:
        """The names of a service's hosts, best first for this attempt: those with the least `swap` before others, those
        that did not have the model a moment ago last."""
        names = self.of(service)
        if len(names) < 2:
            return names
        order = preference([self._hosts[name].in_flight for name in names], attempt)
        return sorted((names[i] for i in order), key=lambda name: (self.lacks(name, model), swap(name)))

    def doubted(self) -> Collection[str]:
        """The hosts that were lost and have not answered since."""
        return [name for name, host in self._hosts.items() if host.pace.is_doubted]

    def asks_loaded(self, route: Route) -> Callable[[], Awaitable[Sequence[LoadedModel]]]:
        """How to ask the host which models it has in memory.

        Of a service that does not tell, a model counts as there once the host answers its probe: such services do not
        keep callers waiting for a load.
        """
        host = self._of(route.host)
        if host.service.tells_loaded:
            return host.backend.loaded

        async def there() -> Sequence[LoadedModel]:
            await host.backend.version()
            return [LoadedModel(name=route.model)]

        return there

    def timeouts(self, route: Route, usual: CallTimeouts) -> CallTimeouts:
        """The limits on a call there: the service's own wait for a first byte, where it was given."""
        return self._of(route.host).service.call_timeouts(usual)

    def note_missing(self, route: Route) -> None:
        """The host said that it does not have the model."""
        host = self._of(route.host)
        missing = host.missing
        now = time.monotonic()
        if len(missing) > 1000:
            host.missing = missing = {name: due for name, due in missing.items() if due > now}
        missing[same(route.model)] = now + MISSING_FOR_S

    async def capabilities(self, route: Route) -> Collection[str]:
        """What the model can do there, in Ollama's words; empty where the host does not say."""
        known = (await self._models(self._of(route.host))).get(same(route.model))
        return () if known is None else known.capabilities

    async def has_model(self, route: Route) -> bool:
        """Whether the host is known to have the model, by its service's settings or by its own word."""
        host = self._of(route.host)
        if same(route.model) in map(same, host.service.models):
            return True
        return host.service.enable_discovery and same(route.model) in await self._models(host)

    async def _models(self, host: _Host) -> dict[str, ModelInfo]:
        """What the host says it has, at most a minute old; nothing when it does not answer."""
        if time.monotonic() >= host.models_until:
            try:
                async with asyncio.timeout(self._probe_s(host)):
                    known = await host.backend.models()
            except (ArrieroError, TimeoutError):
                return {}
            host.models = {same(info.name): info for info in known}
            host.models_until = time.monotonic() + MODELS_FOR_S
        return host.models

    def _probe_s(self, host: _Host) -> float:
        return host.service.probe_s(self._probe_timeout_s)

    # -- pacing -----------------------------------------------------------------------------------------------------

    def pause_s(self, name: str) -> float | None:
        """None when the host may be called now; else the seconds it asked to be left alone, 0 if it is only full."""
        host, now = self._of(name), time.monotonic()
        return None if host.pace.has_room(now, host.in_flight) else host.pace.pause_s(now)

    def busy(self, name: str, retry_after_s: float | None) -> None:
        """The host refused a call because it is at its limit."""
        host = self._of(name)
        host.pace.busy(time.monotonic(), host.in_flight + 1, retry_after_s)

    def served(self, name: str) -> None:
        """The host answered a call."""
        self._of(name).pace.served()

    def under_way(self, route: Route) -> int:
        """How many calls of this worker to that model there have not ended."""
        return self._of(route.host).calls[same(route.model)]

    async def wait_for_room(self, limit_s: float) -> None:
        """Until some call of this worker ends, or for `limit_s`."""
        self._given_back.clear()
        try:
            async with asyncio.timeout(limit_s):
                await self._given_back.wait()
        except TimeoutError:
            pass

    @contextmanager
    def lease(self, route: Route, *, local_only: bool = False) -> Iterator[Lease]:
        """A backend for one call. The block ends with the call, by the error that ended it if there is one.

        `local_only`: for a request that must not leave our machines. This is the one door to a backend, so it holds
        whatever was planned. Raises NoLocalBackend.
        """
        host, model = self._of(route.host), same(route.model)
        if local_only and not host.service.local:
            raise NoLocalBackend
        if host.is_retired:
            raise BackendUnreachable("The service was withdrawn while the job was on its way there.")
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
            self._close_if_idle(host)

    def _answers_again(self, host: _Host, call: int, route: Route) -> None:
        self._on_answer(route.host, route.model)
        if host.pace.answers(call):
            self._given_back.set()

    # -- asking all -------------------------------------------------------------------------------------------------

    async def is_up(self) -> bool:
        """Whether at least one backend answers its probe: of ours, or where there are none, of all."""
        hosts = self._ours() or self._hosts.values()
        return any(await asyncio.gather(*(self._answers(host) for host in hosts)))

    def _ours(self) -> list[_Host]:
        # Pages are read every few seconds: nobody else's servers are asked for that.
        return [host for host in self._hosts.values() if host.service.local]

    async def _answers(self, host: _Host) -> bool:
        try:
            async with asyncio.timeout(self._probe_s(host)):
                await host.backend.version()
        except (ArrieroError, TimeoutError):
            return False
        return True

    async def loaded(self) -> list[LoadedModel]:
        """Models in memory on all our backends that answer."""
        found = await asyncio.gather(*(self._loaded(host) for host in self._ours()))
        return [model for models in found for model in models]

    async def _loaded(self, host: _Host) -> list[LoadedModel]:
        try:
            async with asyncio.timeout(self._probe_s(host)):
                return await host.backend.loaded()
        except (ArrieroError, TimeoutError):
            return []

    async def aclose(self) -> None:
        for host in (*self._hosts.values(), *self._retired.values()):
            await host.backend.aclose()
        await asyncio.gather(*self._closing)
