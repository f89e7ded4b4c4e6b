"""A backend without a model: the same answer to the same request, at once, from nowhere. For tests and dry runs.

It exists only where it is configured (`services: {mock: {}}`), and its texts say that they are no model's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator

from shared.backends.base import CallTimeouts, LoadedModel, ModelInfo
from shared.errors import BackendRejected, ModelNotFound
from shared.services.config import ServiceConfig
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
    FinishReason,
    ToolCall,
    Usage,
    pack_vector,
)

MODEL = "mock"
DIMENSIONS = 16
MAX_DIMENSIONS = 4096


class MockBackend:
    """Has the model `mock` and those its service lists. A request with tools is answered by a call of the first one,
    unless it brings a tool's result."""

    def __init__(self, service: ServiceConfig, url: str, *, pool_size: int = 100) -> None:
        """`url` only tells several of them apart; nothing is connected to."""
        self._name = url.partition("://")[2] or MODEL
        self._models = service.models or (MODEL,)

    @property
    def loads_models(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return self._name

    async def chat(
        self, request: ChatRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        """Word by word, then the end."""
        self._require(request.model)
        prompt = " ".join(message.content for message in request.messages)
        last = request.messages[-1] if request.messages else None
        if request.tools and last is not None and last.role != "tool":
            name = str(request.tools[0].get("function", {}).get("name", ""))
            yield Delta(tool_calls=[ToolCall(id=f"call_{_digest(prompt)[:12]}", name=name, arguments="{}")])
            yield _finish(prompt, "", "tool_calls")
            return
        for part in _answer(prompt, request.format, request.sampling.max_tokens):
            yield part

    async def complete(
        self, request: CompletionRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        """As `chat`."""
        self._require(request.model)
        for part in _answer(request.prompt, request.format, request.sampling.max_tokens):
            yield part

    async def embed(self, request: EmbeddingRequest, *, request_id: str, timeouts: CallTimeouts) -> EmbeddingAnswer:
        """Vectors of length 1 that depend on nothing but their text."""
        self._require(request.model)
        dimensions = DIMENSIONS if request.dimensions is None else request.dimensions
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise BackendRejected(f"The mock has at most {MAX_DIMENSIONS} dimensions.", param="dimensions")
        return EmbeddingAnswer(
            model=request.model,
            vectors=[pack_vector(_vector(text, dimensions)) for text in request.inputs],
            backend=self.name,
            usage=Usage(prompt_tokens=sum(len(text.split()) for text in request.inputs)),
        )

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(name=name, capabilities=("completion", "tools", "embedding")) for name in self._models]

    async def loaded(self) -> list[LoadedModel]:
        return [LoadedModel(name=name) for name in self._models]

    async def version(self) -> str:
        return "mock"

    async def aclose(self) -> None:
        """Nothing is open."""

    def _require(self, model: str) -> None:
        if model not in self._models:
            raise ModelNotFound(f"The mock has no model '{model}'. It has {', '.join(self._models)}.", param="model")


def _answer(prompt: str, form: object, max_tokens: int | None) -> list[Delta | Finish]:
    if isinstance(form, dict):
        raise BackendRejected("The mock cannot follow a JSON schema. Ask for `json`, or for text.", param="format")
    words = (
        ['{"mock":', "true}"] if form == "json" else f"No model wrote this mock answer {_digest(prompt)[:8]}.".split()
    )
    said = words if max_tokens is None else words[:max_tokens]
    texts = [word if place == 0 else f" {word}" for place, word in enumerate(said)]
    reason: FinishReason = "stop" if len(said) == len(words) else "length"
    return [*(Delta(content=text) for text in texts), _finish(prompt, " ".join(said), reason)]


def _finish(prompt: str, answer: str, reason: FinishReason) -> Finish:
    return Finish(reason=reason, usage=Usage(prompt_tokens=len(prompt.split()), completion_tokens=len(answer.split())))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _vector(text: str, dimensions: int) -> list[float]:
    seed = text.encode("utf-8", "surrogatepass")
    raw = hashlib.shake_256(seed).digest(dimensions)
    values = [byte - 127.5 for byte in raw]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]
