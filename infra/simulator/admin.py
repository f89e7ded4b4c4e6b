"""/_sim: the call log, the faults, and a reset. Not part of Ollama, never delayed, never logged, never faulty."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from infra.simulator.calls import CallLog
from infra.simulator.faults import FaultBook, FaultError, parse_fault


class Admin:
    """Answers in JSON; a bad fault gets a 400 that says why."""

    def __init__(self, calls: CallLog, faults: FaultBook, reset: Callable[[], None]) -> None:
        self._calls = calls
        self._faults = faults
        self._reset = reset

    async def list_calls(self, request: web.Request) -> web.Response:
        """GET /_sim/calls, oldest first. `?event=`, `?model=`, `?path=` and `?request_id=` narrow it down."""
        wanted = {key: value for key, value in request.query.items() if key in ("event", "model", "path", "request_id")}
        calls = self._calls.entries()
        if wanted:
            calls = [call for call in calls if all(getattr(call, key) == value for key, value in wanted.items())]
        return _json({"calls": [call.as_json() for call in calls]})

    async def clear_calls(self, request: web.Request) -> web.Response:
        """DELETE /_sim/calls"""
        self._calls.clear()
        return _json({"calls": []})

    async def add_fault(self, request: web.Request) -> web.Response:
        """POST /_sim/faults; answers with the fault as understood."""
        try:
            fault = parse_fault(await request.read())
        except FaultError as exc:
            return _json({"error": str(exc)}, status=400)
        self._faults.add(fault)
        return _json(msgspec.to_builtins(fault))

    async def list_faults(self, request: web.Request) -> web.Response:
        """GET /_sim/faults: those in force; `count` is what is left."""
        return _json({"faults": [msgspec.to_builtins(fault) for fault in self._faults.all()]})

    async def clear_faults(self, request: web.Request) -> web.Response:
        """DELETE /_sim/faults"""
        self._faults.clear()
        return _json({"faults": []})

    async def reset(self, request: web.Request) -> web.Response:
        """POST /_sim/reset: no calls, no faults, nothing loaded, the models it started with."""
        self._reset()
        return _json({"reset": True})


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")
