"""Anthropic's Messages API as a `Backend`: the service itself, and any server that speaks it.

Calls always stream, for callers too who want the answer in one piece: failures show early, and closing the connection
stops the model. An answer counts only once `message_stop` was read. Nothing here runs on a machine of ours, so there is
nothing to load and nothing in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from urllib.parse import quote

from shared.backends import anthropic_models, anthropic_requests
from shared.backends.anthropic_answers import EventReader
from shared.backends.anthropic_errors import classify, incomplete
from shared.backends.anthropic_requests import Sent
from shared.backends.base import CallTimeouts, LoadedModel, ModelInfo
from shared.backends.call import Call
from shared.backends.http import Upstream
from shared.errors import BackendRejected
from shared.services.config import ServiceConfig
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
)

API_VERSION = "2023-06-01"
"""The latest one that lets a model be sampled as the caller wishes, and the one that other servers speak."""
MESSAGES = "/v1/messages"
MODELS = "/v1/models"
PAGE = 1000
MAX_PAGES = 10
MAX_LIST_BYTES = 16 * 1024 * 1024


class AnthropicBackend:
    """One URL of a service that speaks the Messages API.

    The key goes into `x-api-key`, and nowhere else. `pool_size` bounds the connections. The service's own limit on the
    wait for the first byte holds where it is shorter than the caller's.
    """

    def __init__(self, service: ServiceConfig, url: str, *, pool_size: int = 100) -> None:
        self._service = service
        headers = {"anthropic-version": API_VERSION}
        if service.key:
            headers["x-api-key"] = service.key
        # Clients' base URLs end at the host, other dialects' in /v1; both are meant the same.
        base_url = url.rstrip("/").removesuffix("/v1")
        self._upstream = Upstream(
            base_url,
            pool_size=pool_size,
            headers=headers,
            verify_cert=service.verify_cert,
            is_ours=service.local,
        )
        self._ask_timeouts = service.ask_timeouts

    @property
    def loads_models(self) -> bool:
        return False

    @property
    def name(self) -> str:
        """host:port"""
        return self._upstream.label

    async def aclose(self) -> None:
        """Close the connections. Calls in flight end with an error."""
        await self._upstream.aclose()

    # --- inference
    def chat(
        self, request: ChatRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        """Deltas as they come, then exactly one `Finish`. Empty deltas are left out."""
        return self._generate(lambda: anthropic_requests.chat_body(request), request.model, request_id, timeouts)

    def complete(
        self, request: CompletionRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        """As `chat`, with the prompt as its only turn. Raises BackendRejected for a suffix or a raw prompt."""
        return self._generate(lambda: anthropic_requests.completion_body(request), request.model, request_id, timeouts)

    async def _generate(
        self, make: Callable[[], Sent], model: str, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        sent = make()
        reader = EventReader(model, answers_by_tool=sent.answers_by_tool, secret=self._service.key)
        limits = self._service.capped(timeouts)
        call = await self._upstream.open("POST", MESSAGES, sent.body, request_id=request_id, timeouts=limits)
        try:
            await self._expect_ok(call, MESSAGES, model)
            seen = False
            finish = None
            while finish is None:
                lines = await call.lines()
                if not lines:
                    raise incomplete(seen)
                for line in lines:
                    delta = reader.read(line)
                    if delta is not None:
                        seen = True
                        yield delta
                    finish = reader.finish
                    if finish is not None:
                        break
            await call.drain()
            yield finish
        finally:
            call.close()

    async def embed(self, request: EmbeddingRequest, *, request_id: str, timeouts: CallTimeouts) -> EmbeddingAnswer:
        """Raises BackendRejected: the API has no vectors."""
        raise BackendRejected("This service makes no embeddings. Choose a model of another one.", param="model")

    # --- questions
    async def models(self) -> list[ModelInfo]:
        """The models that this key may use, as the service lists them; those of the configuration added, or alone where
        discovery is off."""
        found: dict[str, ModelInfo] = {}
        after = ""
        for _ in range(MAX_PAGES if self._service.enable_discovery else 0):
            page = anthropic_models.read_page(await self._get(f"{MODELS}?limit={PAGE}{after}"))
            found.update((info.name, info) for info in page.infos())
            if not (page.has_more and page.last_id):
                break
            after = f"&after_id={quote(page.last_id, safe='')}"
        for name in self._service.models:
            found.setdefault(name, anthropic_models.named(name))
        return list(found.values())

    async def loaded(self) -> list[LoadedModel]:
        """None: the service does not tell what its machines hold."""
        return []

    async def version(self) -> str:
        """The version of the API, from a call that proves address and key and costs no tokens."""
        call = await self._upstream.open("GET", f"{MODELS}?limit=1", timeouts=self._ask_timeouts)
        try:
            if call.status == 404 and not self._service.enable_discovery:
                # It is there, and has no list of models, as its configuration says.
                await call.drain()
                return API_VERSION
            await self._expect_ok(call, MODELS)
            anthropic_models.read_page(await call.body(MAX_LIST_BYTES))
            return API_VERSION
        finally:
            call.close()

    # --- plumbing
    async def _get(self, path: str) -> bytes:
        call = await self._upstream.open("GET", path, timeouts=self._ask_timeouts)
        try:
            await self._expect_ok(call, MODELS)
            return await call.body(MAX_LIST_BYTES)
        finally:
            call.close()

    async def _expect_ok(self, call: Call, path: str, model: str = "") -> None:
        if call.status != 200:
            raise classify(
                call.status,
                await call.error_text(),
                endpoint=path,
                model=model,
                retry_after=call.headers.get("Retry-After"),
                secret=self._service.key,
            )
