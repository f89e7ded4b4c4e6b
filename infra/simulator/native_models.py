"""The routes about models and the server: tags, ps, show, copy, delete, version."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from infra.simulator.catalogue import Catalogue, Model
from infra.simulator.durations import local_time
from infra.simulator.exchange import Exchange
from infra.simulator.failures import ApiError
from infra.simulator.native_requests import field, find_model, model_named
from infra.simulator.runner import Runner
from infra.simulator.scheduler import Scheduler
from infra.simulator.wire import send_whole, to_json

VERSION = "0.33.0"
BYTES_PER_CONTEXT_TOKEN = 131_072
"""Of the memory that a slot's context takes."""


class NativeModels:
    """Small routes, none of which waits for a load."""

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler, parallel: int) -> None:
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._parallel = parallel

    async def root(self, x: Exchange) -> web.StreamResponse:
        """GET /"""
        return web.Response(text="Ollama is running")

    async def version(self, x: Exchange) -> web.StreamResponse:
        """GET /api/version"""
        return await _reply(x, {"version": VERSION})

    async def status(self, x: Exchange) -> web.StreamResponse:
        """GET /api/status"""
        return await _reply(x, {"cloud": {"disabled": True, "source": "env"}})

    async def tags(self, x: Exchange) -> web.StreamResponse:
        """GET /api/tags"""
        return await _reply(x, {"models": [model.listing() for model in self._catalogue.all()]})

    async def ps(self, x: Exchange) -> web.StreamResponse:
        """GET /api/ps"""
        return await _reply(x, {"models": [self._resident(runner) for runner in self._scheduler.loaded()]})

    def _resident(self, runner: Runner) -> dict[str, Any]:
        listing = runner.model.listing()
        slots = 1 if runner.model.is_embedding else self._parallel
        size = runner.model.size_bytes + slots * runner.options.num_ctx * BYTES_PER_CONTEXT_TOKEN
        return {
            **{key: listing[key] for key in ("name", "model", "digest", "details")},
            "size": size,
            "size_vram": size,
            "expires_at": local_time(runner.expires_at()),
            "context_length": runner.options.num_ctx,
        }

    async def show(self, x: Exchange) -> web.StreamResponse:
        """POST /api/show"""
        if not model_named(x.body):
            raise ApiError(400, "model is required")
        model = find_model(self._catalogue, model_named(x.body))
        return await _reply(x, _shown(model))

    async def copy(self, x: Exchange) -> web.StreamResponse:
        """POST /api/copy: both names share their weights from then on. Empty body."""
        source, destination = field(x.body, "source", str, ""), field(x.body, "destination", str, "")
        for role, name in (("source", source), ("destination", destination)):
            if not name:
                raise ApiError(400, f'{role} "{name}" is invalid')
        model = self._catalogue.find(source)
        if model is None:
            raise ApiError(404, f'model "{source}" not found')
        self._catalogue.copy(model, destination)
        return web.Response(status=200)

    async def delete(self, x: Exchange) -> web.StreamResponse:
        """DELETE /api/delete: a loaded model stays loaded. Empty body."""
        self._catalogue.remove(find_model(self._catalogue, model_named(x.body)))
        return web.Response(status=200)

    async def not_simulated(self, x: Exchange) -> web.StreamResponse:
        """push: refused, rather than pretended."""
        path = x.request.path
        raise ApiError(501, f"{path} is not simulated: it takes a real Ollama")


async def _reply(x: Exchange, value: dict[str, Any]) -> web.StreamResponse:
    return await send_whole(x, to_json(value), charset="utf-8")


def _shown(model: Model) -> dict[str, Any]:
    return {
        "license": "Simulated model: there are no weights and so no licence.",
        "modelfile": f"# Simulated\nFROM {model.shown}\n",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": model.details(),
        "model_info": {
            "general.architecture": model.family,
            "general.parameter_count": int(model.billions * 1e9),
            f"{model.family}.context_length": model.context_length,
            f"{model.family}.embedding_length": model.dimensions,
        },
        "tensors": [],
        "capabilities": list(model.capabilities),
        "modified_at": local_time(model.modified_at),
    }
