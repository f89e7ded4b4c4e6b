"""Which models are in memory, and who may use them: Ollama's two waits.

(A) A request whose model is not loaded, or needs other load options, joins one bounded FIFO. One loop serves it: one
    load at a time, and while it loads, evicts or waits for a busy victim, everything behind it waits too.
(B) A request whose model is loaded as wanted skips that queue and waits, without bound, for one of the model's slots.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from infra.simulator.calls import CallLog
from infra.simulator.catalogue import Model
from infra.simulator.failures import ApiError, busy
from infra.simulator.options import LoadOptions
from infra.simulator.runner import Runner
from infra.simulator.settings import SimulatorSettings

LoadFault = Callable[[Model], ApiError | None]


@dataclass(eq=False, slots=True)
class _Pending:
    """A request in the load queue. One whose client has gone keeps its place until the loop reaches it."""

    model: Model
    options: LoadOptions
    keep_alive_s: float | None
    request_id: str | None
    granted: asyncio.Future[Runner]
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Scheduler:
    """Owns the runners. `start` and `close` belong to the server's life."""

    def __init__(self, settings: SimulatorSettings, calls: CallLog, load_fault: LoadFault) -> None:
        self._settings = settings
        self._calls = calls
        self._load_fault = load_fault
        self._queue: deque[_Pending] = deque()
        self._in_hand = False
        self._arrived = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._loaded: dict[str, Runner] = {}

    def start(self) -> None:
        self._loop_task = asyncio.create_task(self._serve(), name="simulator load queue")

    async def close(self) -> None:
        if self._loop_task is not None:
            self._loop_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop_task
        self.reset()

    def reset(self) -> None:
        """Forget what is loaded, without a line in the log; running requests end undisturbed."""
        for runner in self._loaded.values():
            runner.stop_timer()
        self._loaded.clear()

    @property
    def waiting(self) -> int:
        """Requests in the load queue, gone ones included."""
        return len(self._queue)

    def loaded(self) -> list[Runner]:
        """Latest expiry first. A model that is still loading is not among them."""
        return sorted(self._loaded.values(), key=Runner.expires_at, reverse=True)

    @asynccontextmanager
    async def lease(
        self, model: Model, options: LoadOptions, keep_alive_s: float | None, request_id: str | None
    ) -> AsyncIterator[Runner]:
        """The runner, loaded if need be and kept until the lease ends. Raises ApiError 503 when the queue is full."""
        runner = await self._acquire(model, options, keep_alive_s, request_id)
        try:
            yield runner
        finally:
            self._release(runner)

    def unload(self, model: Model) -> None:
        """Drop the model as soon as nobody uses it; nothing happens if it is not loaded."""
        if runner := self._loaded.get(model.digest):
            runner.keep_alive_s = 0
            if runner.is_idle:
                self._drop(runner)

    async def _acquire(
        self, model: Model, options: LoadOptions, keep_alive_s: float | None, request_id: str | None
    ) -> Runner:
        runner = self._loaded.get(model.digest)
        if runner is not None and runner.options == options:
            runner.take(keep_alive_s)
            return runner
        # The request in the loop's hand has left the queue.
        if len(self._queue) + self._in_hand > self._settings.max_queue:
            raise busy()
        pending = _Pending(model, options, keep_alive_s, request_id, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        self._arrived.set()
        try:
            return await pending.granted
        except asyncio.CancelledError:
            pending.gone.set()
            # The grant and the disconnect may fall into one turn of the loop; then the lease must be given back here.
            if pending.granted.done() and not pending.granted.cancelled() and not pending.granted.exception():
                self._release(pending.granted.result())
            raise

    async def _serve(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            pending = self._queue.popleft()
            self._in_hand = True
            try:
                await self._serve_one(pending)
            except ApiError as exc:
                if not pending.granted.done():
                    pending.granted.set_exception(exc)
            finally:
                self._in_hand = False

    async def _serve_one(self, pending: _Pending) -> None:
        while not pending.gone.is_set():
            runner = self._loaded.get(pending.model.digest)
            if runner is not None and runner.options == pending.options:
                runner.take(pending.keep_alive_s)
                pending.granted.set_result(runner)
                return
            if runner is None and len(self._loaded) >= self._settings.max_loaded_models:
                runner = min(self._loaded.values(), key=Runner.eviction_order)
            if runner is not None:
                await runner.wait_idle()
                # Those who find it loaded still get it while we wait, so it may be busy again.
                if runner.is_idle:
                    self._drop(runner)
                continue
            await self._load(pending)

    async def _load(self, pending: _Pending) -> None:
        poll_s = self._settings.ready_poll_seconds
        duration_s = math.ceil(round(self._settings.load_seconds / poll_s, 6)) * poll_s
        call = self._calls.begin("load", model=pending.model.shown, request_id=pending.request_id)
        try:
            if self._settings.load_owner_aborts:
                with suppress(TimeoutError):
                    await asyncio.wait_for(pending.gone.wait(), duration_s)
                    return
            else:
                await asyncio.sleep(duration_s)
            if fault := self._load_fault(pending.model):
                raise fault
            self._admit(pending)
            call.end()
        finally:
            call.end(cancelled=True)

    def _admit(self, pending: _Pending) -> None:
        default_s = self._settings.keep_alive_seconds
        runner = Runner(
            model=pending.model,
            options=pending.options,
            # Ollama gives embedding models a single slot whatever it is told.
            parallel=1 if pending.model.is_embedding else self._settings.parallel,
            keep_alive_s=math.inf if default_s < 0 else default_s,
            on_expiry=self._drop,
        )
        self._loaded[pending.model.digest] = runner
        if pending.gone.is_set():
            runner.start_timer()

    def _release(self, runner: Runner) -> None:
        if runner.give_back() and self._loaded.get(runner.model.digest) is runner:
            runner.start_timer()

    def _drop(self, runner: Runner) -> None:
        if self._loaded.get(runner.model.digest) is not runner or not runner.is_idle:
            return
        runner.stop_timer()
        del self._loaded[runner.model.digest]
        call = self._calls.begin("unload", model=runner.model.shown)
        call.end()
