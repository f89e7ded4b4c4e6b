"""The /v1 routes: adapters onto what the native ones do, with the same queue, slots and limits."""

from __future__ import annotations

import base64
from array import array
from typing import Any

from aiohttp import web

from infra.simulator.answering import Answering
from infra.simulator.catalogue import Catalogue, Model
from infra.simulator.exchange import Exchange
from infra.simulator.failures import ApiError
from infra.simulator.native_embeddings import Embedder, encode_vectors
from infra.simulator.native_requests import field, find_model, parse_chat, parse_generate
from infra.simulator.openai_face import OpenAIFace
from infra.simulator.openai_requests import native_chat, native_completion, wants_usage
from infra.simulator.settings import SimulatorSettings
from infra.simulator.wire import send_whole, to_json


class OpenAIRoutes:
    """Chat, completions, embeddings and models in OpenAI's shapes."""

    def __init__(
        self, settings: SimulatorSettings, catalogue: Catalogue, answering: Answering, embedder: Embedder
    ) -> None:
        self._ctx = settings.context_length
        self._catalogue = catalogue
        self._answering = answering
        self._embedder = embedder

    def _model(self, name: str, verb: str) -> Model:
        if not name:
            raise ApiError(400, "model is required")
        model = find_model(self._catalogue, name)
        if model.is_embedding:
            raise ApiError(400, f'"{name}" does not support {verb}')
        return model

    async def chat(self, x: Exchange) -> web.StreamResponse:
        """POST /v1/chat/completions"""
        body = native_chat(x.body)
        request = parse_chat(body, self._model(body["model"], "chat"), default_ctx=self._ctx)
        return await self._answering.answer(x, request, OpenAIFace(request, include_usage=wants_usage(x.body)))

    async def completions(self, x: Exchange) -> web.StreamResponse:
        """POST /v1/completions"""
        body = native_completion(x.body)
        request = parse_generate(body, self._model(body["model"], "generate"), default_ctx=self._ctx)
        return await self._answering.answer(x, request, OpenAIFace(request, include_usage=wants_usage(x.body)))

    async def embeddings(self, x: Exchange) -> web.StreamResponse:
        """POST /v1/embeddings"""
        name = field(x.body, "model", str, "")
        if not name:
            raise ApiError(400, "model is required")
        model = self._embedder.model(name)
        value = x.body.get("input")
        inputs = [value] if isinstance(value, str) else value
        if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
            raise ApiError(400, "invalid input")
        encoding = field(x.body, "encoding_format", str, "float")
        if encoding not in ("float", "base64"):
            raise ApiError(
                400, f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64']."
            )
        vectors, tokens, _ = await self._embedder.vectors(x, model, inputs)
        data = [
            {"object": "embedding", "embedding": _packed(vector) if encoding == "base64" else vector, "index": index}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return await send_whole(x, encode_vectors({"object": "list", "data": data, "model": name, "usage": usage}))

    async def models(self, x: Exchange) -> web.StreamResponse:
        """GET /v1/models: `data` is null, not empty, when there are none."""
        data = [_item(model) for model in self._catalogue.all()]
        return await send_whole(x, to_json({"object": "list", "data": data or None}))

    async def model(self, x: Exchange) -> web.StreamResponse:
        """GET /v1/models/{model}"""
        return await send_whole(x, to_json(_item(find_model(self._catalogue, x.request.match_info["model"]))))


def _packed(vector: list[float]) -> str:
    """Little-endian float32 in base64."""
    packed = array("f", vector)
    return base64.b64encode(packed.tobytes()).decode()


def _item(model: Model) -> dict[str, Any]:
    return {"id": model.shown, "object": "model", "created": int(model.modified_at), "owned_by": "library"}
