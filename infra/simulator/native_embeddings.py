"""/api/embed, the legacy /api/embeddings, and what the OpenAI face needs of them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from zlib import crc32

import msgspec
from aiohttp import web

from infra.simulator.catalogue import Catalogue, Model
from infra.simulator.embeddings import embed, shortened
from infra.simulator.exchange import Exchange
from infra.simulator.failures import ApiError, not_found_for_embedding, runner_error
from infra.simulator.faults import Fault
from infra.simulator.native_requests import field, model_named, parse_load
from infra.simulator.requests import TextRequest
from infra.simulator.scheduler import Scheduler
from infra.simulator.settings import SimulatorSettings
from infra.simulator.text import count_tokens
from infra.simulator.wire import send_whole

NO_EMBEDDINGS_TEXT = "This server does not support embeddings. Start it with `--embeddings`"
Vectors = list[list[float]]


class Embedder:
    """Runs embedding requests on simulated models."""

    def __init__(self, settings: SimulatorSettings, catalogue: Catalogue, scheduler: Scheduler) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._scheduler = scheduler

    def model(self, name: str) -> Model:
        """Raises ApiError 404, in the spelling of the embedding routes."""
        if not name:
            raise not_found_for_embedding(name)
        if model := self._catalogue.find(name):
            return model
        raise not_found_for_embedding(name)

    async def vectors(self, x: Exchange, model: Model, inputs: list[str]) -> tuple[Vectors, int, int]:
        """Vectors, tokens, and load time in ns. Loads the model even for no input. Raises ApiError."""
        request = parse_load(x.body, model, default_ctx=self._settings.context_length)
        tokens = self._count(request, inputs)
        made: Vectors = []
        async with self._scheduler.lease(model, request.load, request.keep_alive_s, x.request_id) as runner:
            load_ns = int((time.perf_counter() - x.received) * 1e9)
            if inputs and not model.is_embedding:
                raise runner_error(501, NO_EMBEDDINGS_TEXT, "not_supported_error")
            salt = crc32(model.digest.encode())
            for text in inputs:
                async with runner.slot():
                    await asyncio.sleep(self._settings.one_embedding_seconds)
                    made.append(embed(text, model_salt=salt, dimensions=model.dimensions))
        dimensions = field(x.body, "dimensions", int, 0)
        return _damaged([shortened(vector, dimensions) for vector in made], x.fault), tokens, max(1, load_ns)

    def _count(self, request: TextRequest, inputs: list[str]) -> int:
        limit = request.load.num_ctx
        counts = [count_tokens(text) for text in inputs]
        if not request.truncate and any(count > limit for count in counts):
            raise ApiError(400, "the input length exceeds the context length")
        return sum(min(count, limit) for count in counts)

    async def embed(self, x: Exchange) -> web.StreamResponse:
        """POST /api/embed"""
        model = self.model(model_named(x.body))
        match x.body.get("input"):
            case None | "":
                inputs: list[str] = []
            case str() as text:
                inputs = [text]
            case list() as texts if all(isinstance(text, str) for text in texts):
                inputs = texts
            case _:
                raise ApiError(400, "invalid input type")
        vectors, tokens, load_ns = await self.vectors(x, model, inputs)
        reply: dict[str, Any] = {"model": model_named(x.body), "embeddings": vectors}
        if inputs:
            total_ns = int((time.perf_counter() - x.received) * 1e9)
            reply.update(total_duration=total_ns, load_duration=load_ns, prompt_eval_count=tokens)
        return await send_whole(x, encode_vectors(reply), charset="utf-8")

    async def embeddings(self, x: Exchange) -> web.StreamResponse:
        """POST /api/embeddings, as it was before /api/embed."""
        model = self.model(model_named(x.body))
        prompt = field(x.body, "prompt", str, "")
        vectors, _, _ = await self.vectors(x, model, [prompt] if prompt else [])
        return await send_whole(x, encode_vectors({"embedding": vectors[0] if vectors else []}), charset="utf-8")


def encode_vectors(reply: dict[str, Any]) -> bytes:
    """JSON; a NaN, which only a fault puts there, is written as a broken server would."""
    body = msgspec.json.encode(reply)
    # msgspec writes NaN as null, and null is another fault.
    return json.dumps(reply).encode() if b"null" in body else body


def _damaged(vectors: Vectors, fault: Fault | None) -> Vectors:
    if fault is None or fault.kind != "garbage" or not vectors:
        return vectors
    match fault.variant:
        case "embedding_count":
            return vectors[:-1]
        case "embedding_dimension":
            return [*vectors[:-1], vectors[-1][:-1]]
        case "embedding_nan":
            return [*vectors[:-1], [float("nan"), *vectors[-1][1:]]]
    return vectors
