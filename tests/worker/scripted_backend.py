"""A backend that says what its test tells it to; no server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from shared.backends.base import CallTimeouts, LoadedModel, ModelInfo
from shared.errors import ArrieroError
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
    Timings,
    Usage,
    pack_vector,
)

FINISH = Finish(reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=2), timings=Timings(load_s=0.2))
Step = Delta | Finish | ArrieroError | float
"""What comes next: something said, an error raised, or so many seconds of silence."""


class ScriptedBackend:
    """Each call plays the next script; the last one is played again and again."""

    def __init__(self, *scripts: Sequence[Step], name: str = "scripted:1") -> None:
        self._name = name
        self._scripts = list(scripts) or [[Delta(content="ok"), FINISH]]
        self.calls: list[ChatRequest | CompletionRequest | EmbeddingRequest] = []
        self.request_ids: list[str] = []
        self.timeouts: list[CallTimeouts] = []
        self.closed_streams = 0
        self.up = True

    def play(self, scripts: Sequence[Sequence[Step]]) -> None:
        """From now on."""
        self._scripts = list(scripts)

    @property
    def loads_models(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return self._name

    def chat(self, request: ChatRequest, *, request_id: str, timeouts: CallTimeouts) -> AsyncIterator[Delta | Finish]:
        return self._play(self._next(request, request_id, timeouts))

    def complete(
        self, request: CompletionRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncIterator[Delta | Finish]:
        return self._play(self._next(request, request_id, timeouts))

    def _next(
        self, request: ChatRequest | CompletionRequest | EmbeddingRequest, request_id: str, timeouts: CallTimeouts
    ) -> Sequence[Step]:
        self.calls.append(request)
        self.request_ids.append(request_id)
        self.timeouts.append(timeouts)
        return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    async def _play(self, script: Sequence[Step]) -> AsyncIterator[Delta | Finish]:
        try:
            for step in script:
                match step:
                    case ArrieroError():
                        raise step
                    case float():
                        await asyncio.sleep(step)
                    case _:
                        yield step
        finally:
            self.closed_streams += 1

    async def embed(self, request: EmbeddingRequest, *, request_id: str, timeouts: CallTimeouts) -> EmbeddingAnswer:
        for step in self._next(request, request_id, timeouts):
            if isinstance(step, ArrieroError):
                raise step
        vectors = [pack_vector([float(n), 1.0]) for n, _ in enumerate(request.inputs)]
        return EmbeddingAnswer(model=request.model, vectors=vectors, usage=Usage(prompt_tokens=4))

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(name="llama3.2")]

    async def loaded(self) -> list[LoadedModel]:
        if not self.up:
            raise ArrieroError("down")
        return [LoadedModel(name="llama3.2")]

    async def version(self) -> str:
        if not self.up:
            raise ArrieroError("down")
        return "0.0.0"

    async def aclose(self) -> None:
        """Nothing is open."""
