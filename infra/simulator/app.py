"""Composition: the parts of a simulator, its routes, and its life on a port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from infra.simulator.admin import Admin
from infra.simulator.answering import Answering
from infra.simulator.calls import CallLog
from infra.simulator.catalogue import Catalogue, Model
from infra.simulator.create import Creations
from infra.simulator.exchange import Front
from infra.simulator.failures import ApiError, default_text
from infra.simulator.faults import LOAD_PATH, FaultBook
from infra.simulator.native import NativeText
from infra.simulator.native_embeddings import Embedder
from infra.simulator.native_models import NativeModels
from infra.simulator.openai_routes import OpenAIRoutes
from infra.simulator.pull import Pulls
from infra.simulator.scheduler import Scheduler
from infra.simulator.settings import SimulatorSettings

LARGEST_BODY_BYTES = 256 * 1024 * 1024
BACKLOG = 2048
STOP_S = 0.1
"""Ollama cuts its connections when it stops; so do we, almost."""


class Simulator:
    """One stand-in for an Ollama server. `url` is known once it listens."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.url = ""
        self.calls = CallLog(settings.call_log_size)
        self.faults = FaultBook(settings.seed)
        self.catalogue = Catalogue(settings.models, dimensions=settings.embedding_dimensions)
        self.scheduler = Scheduler(settings, self.calls, self._load_fault)
        self._pulls = Pulls(settings, self.catalogue)
        self._creations = Creations(self.catalogue)

    def reset(self) -> None:
        """Empty log, no faults, nothing loaded, the models of the start. Running requests end undisturbed."""
        self.calls.clear()
        self.faults.clear()
        self.scheduler.reset()
        self.catalogue.reset()
        self._pulls.reset()
        self._creations.reset()

    def _load_fault(self, model: Model) -> ApiError | None:
        fault = self.faults.strike(LOAD_PATH, model.shown, is_inference=False)
        return ApiError(fault.status, fault.body or default_text(fault.status)) if fault else None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_BODY_BYTES)
        self._add_routes(app.router)
        app.cleanup_ctx.append(self._run_scheduler)
        return app

    async def _run_scheduler(self, app: web.Application) -> AsyncIterator[None]:
        self.scheduler.start()
        yield
        await self.scheduler.close()

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        front = Front(self.calls, self.faults)
        answering = Answering(self.settings, self.scheduler)
        embedder = Embedder(self.settings, self.catalogue, self.scheduler)
        text = NativeText(self.settings, self.catalogue, self.scheduler, answering)
        openai = OpenAIRoutes(self.settings, self.catalogue, answering, embedder)
        models = NativeModels(self.catalogue, self.scheduler, self.settings.parallel)
        admin = Admin(self.calls, self.faults, self.reset)

        for path, infer in {
            "/api/chat": text.chat,
            "/api/generate": text.generate,
            "/api/embed": embedder.embed,
            "/api/embeddings": embedder.embeddings,
        }.items():
            router.add_post(path, front.serve(infer, inference=True))
        for path, infer in {
            "/v1/chat/completions": openai.chat,
            "/v1/completions": openai.completions,
            "/v1/embeddings": openai.embeddings,
        }.items():
            router.add_post(path, front.serve(infer, inference=True, openai=True))
        for path, read in {
            "/": models.root,
            "/api/version": models.version,
            "/api/status": models.status,
            "/api/tags": models.tags,
            "/api/ps": models.ps,
        }.items():
            router.add_get(path, front.serve(read, body=False))
        router.add_get("/v1/models", front.serve(openai.models, openai=True, body=False))
        router.add_get("/v1/models/{model:.+}", front.serve(openai.model, openai=True, body=False))
        router.add_post("/api/show", front.serve(models.show))
        router.add_post("/api/copy", front.serve(models.copy))
        router.add_delete("/api/delete", front.serve(models.delete, logged=True))
        router.add_post("/api/pull", front.serve(self._pulls.pull, logged=True))
        router.add_post("/api/create", front.serve(self._creations.create, logged=True))
        router.add_route("*", "/api/blobs/{digest}", front.serve(self._creations.blob, body=False))
        router.add_post("/api/push", front.serve(models.not_simulated))

        router.add_get("/_sim/calls", admin.list_calls)
        router.add_delete("/_sim/calls", admin.clear_calls)
        router.add_post("/_sim/faults", admin.add_fault)
        router.add_get("/_sim/faults", admin.list_faults)
        router.add_delete("/_sim/faults", admin.clear_faults)
        router.add_post("/_sim/reset", admin.reset)

        known = {resource.canonical for resource in router.resources()}

        async def elsewhere(request: web.Request) -> web.Response:
            if request.path in known:
                return web.Response(text="405 method not allowed", status=405)
            return web.Response(text="404 page not found", status=404)

        router.add_route("*", "/{anywhere:.*}", elsewhere)


@asynccontextmanager
async def listening(settings: SimulatorSettings) -> AsyncIterator[Simulator]:
    """A simulator on its port until the block ends. Raises OSError when the port is taken."""
    simulator = Simulator(settings)
    # Without handler_cancellation aiohttp would finish answers whose client has gone, and slots would stay taken.
    runner = web.AppRunner(
        simulator.application(),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=STOP_S,
        handle_signals=False,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG)
        await site.start()
        host, port = runner.addresses[0][:2]
        simulator.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        yield simulator
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(settings: SimulatorSettings | None = None, **options: Any) -> AsyncIterator[Simulator]:
    """A simulator in this event loop, on a free port unless one is named.

    `async with running(load_seconds=0) as ollama: ... ollama.url`. Options are the fields of `SimulatorSettings`;
    `models` and `registry` may be comma-separated text.
    """
    for name in ("models", "registry"):
        if isinstance(options.get(name), str):
            options[name] = tuple(part.strip() for part in options[name].split(",") if part.strip())
    base = settings or SimulatorSettings(port=0)
    async with listening(replace(base, **options)) as simulator:
        yield simulator
