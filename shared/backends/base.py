"""What Arriero asks of a model server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
)


@dataclass(slots=True, frozen=True, kw_only=True)
class CallTimeouts:
    """Limits on one call, in seconds. The first byte covers queueing, model load and prompt evaluation."""

    connect_s: float = 5.0
    first_byte_s: float = 300.0
    gap_s: float = 60.0
    total_s: float = 300.0


@dataclass(slots=True, frozen=True, kw_only=True)
class ModelInfo:
    """An installed model. `loaded` with its memory in bytes when the server has it in memory."""

    name: str
    size_bytes: int = 0
    digest: str = ""
    modified_at: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    capabilities: tuple[str, ...] = field(default=())


@dataclass(slots=True, frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory, from the server itself. `expires_at` is RFC 3339 text."""

    name: str
    size_bytes: int = 0
    vram_bytes: int = 0
    expires_at: str = ""
    context_length: int = 0


class Backend(Protocol):
    """One model server.

    Every method raises only `shared.errors.BackendError` or `ModelNotFound`; cancelling a call closes its connection.
    """

    @property
    def name(self) -> str:
        """Short label for records and metrics, e.g. the host and port."""

    @property
    def loads_models(self) -> bool:
        """Whether `loaded` tells which models it has in memory, and others have to be loaded first."""

    def chat(self, request: ChatRequest, *, request_id: str, timeouts: CallTimeouts) -> AsyncIterator[Delta | Finish]:
        """Deltas as they come, then exactly one `Finish`."""

    def complete(
        self, request: CompletionRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncIterator[Delta | Finish]:
        """As `chat`, for a plain prompt."""

    async def embed(self, request: EmbeddingRequest, *, request_id: str, timeouts: CallTimeouts) -> EmbeddingAnswer:
        """One vector per input, in order, all of one dimension."""

    async def models(self) -> list[ModelInfo]:
        """Installed models."""

    async def loaded(self) -> list[LoadedModel]:
        """Models in memory."""

    async def version(self) -> str:
        """The server's version; the cheapest health probe."""

    async def aclose(self) -> None:
        """Close the connections."""
