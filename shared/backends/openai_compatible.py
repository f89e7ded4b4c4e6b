"""OpenAI's HTTP API as a `Backend`: OpenAI, OpenRouter, LM Studio, Jan, GPT4All, LocalAI, Cortex, vLLM, llama.cpp.

They differ in what `openai_quirks.py` lists. Calls stream wherever the server can, for callers too who want the answer
in one piece: failures show early, and closing the connection stops the model. An answer counts only once the server
said why it ended, or sent the end mark.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from urllib.parse import urlsplit

from msgspec import structs

from shared.backends import openai_compatible_models
from shared.backends.base import CallTimeouts, LoadedModel, ModelInfo
from shared.backends.call import Call
from shared.backends.http import Upstream
from shared.backends.ollama import EMBEDDING_BASE_BYTES, EMBEDDING_VECTOR_BYTES
from shared.backends.ollama_requests import encode
from shared.errors import BackendError, BackendMisconfigured, ModelNotFound
from shared.services.config import ServiceConfig
from shared.wire import openai_upstream
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
    Usage,
)
from shared.wire.openai_shapes import Body
from shared.wire.openai_upstream_answers import DONE, AnswerReader, event_data, read_embedding
from shared.wire.openai_upstream_errors import classify

CHAT = "/chat/completions"
COMPLETIONS = "/completions"
EMBEDDINGS = "/embeddings"
MODELS = "/models"
STUDIO_MODELS = "/api/v0/models"
VERSION_PATH = "/v1"
ID_HEADER = "x-client-request-id"
"""OpenAI's name for an id that the caller chose. Under `x-request-id` some servers take a UUID only."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of an answer in one piece."""
MAX_LIST_BYTES = 32 * 1024 * 1024


class OpenAICompatibleBackend:
    """One URL of a service that speaks OpenAI's dialect.

    The URL is what OpenAI's own clients call `base_url`: it ends in `/v1` for most servers, and one that ends at the
    host is meant so. The key goes into `Authorization`, and nowhere else. `pool_size` bounds the connections. The
    service's own limit on the wait for the first byte holds where it is shorter than the caller's.
    """

    def __init__(self, service: ServiceConfig, url: str, *, pool_size: int = 100) -> None:
        self._service = service
        self._quirks = service.quirks
        headers = dict(self._quirks.headers)
        if service.key:
            headers["Authorization"] = f"Bearer {service.key}"
        # What stands beside the dialect, such as LM Studio's own list, starts at the server's root.
        root = url.rstrip("/").removesuffix(VERSION_PATH)
        self._prefix = VERSION_PATH if root != url.rstrip("/") or urlsplit(root).path in ("", "/") else ""
        self._upstream = Upstream(
            root,
            pool_size=pool_size,
            headers=headers,
            verify_cert=service.verify_cert,
            keeps_connections=self._quirks.keeps_connections,
            id_header=ID_HEADER,
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
        """Deltas as they come, then exactly one `Finish`. Tool calls come last, whole; empty deltas are left out."""
        streams = self._quirks.streams
        stream = streams == "always" or (streams == "without_tools" and not request.tools)
        return self._generate(
            CHAT,
            request.model,
            lambda: openai_upstream.chat_body(request, self._quirks, stream=stream),
            request_id,
            timeouts,
        )

    def complete(
        self, request: CompletionRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        """As `chat`, for a plain prompt; as a chat where the model, or the server, has no /completions. An empty prompt
        is done at once: these servers load and unload by themselves."""
        if openai_upstream.asks_nothing(request):
            return _nothing()
        stream = self._quirks.streams != "never"

        def body() -> Body:
            if plain:
                return openai_upstream.completion_body(request, self._quirks, stream=stream)
            return openai_upstream.chat_body(openai_upstream.as_chat(request), self._quirks, stream=stream)

        plain = openai_upstream.is_plain(request, self._quirks)
        return self._generate(COMPLETIONS if plain else CHAT, request.model, body, request_id, timeouts)

    async def _generate(
        self, path: str, model: str, make: Callable[[], Body], request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        body = make()
        reader = AnswerReader(model, path, self._service.key)
        call = await self._open("POST", path, encode(body), model, request_id, self._service.capped(timeouts))
        try:
            kind = call.headers.get("Content-Type", "")
            in_one_piece = "json" in kind or ("event-stream" not in kind and not body["stream"])
            announced = False
            if in_one_piece:
                delta = reader.read(await call.body(MAX_ANSWER_BYTES))
                if delta is not None:
                    yield delta
            while not in_one_piece and not announced and (lines := await self._lines(call, reader)):
                for line in lines:
                    data = event_data(line)
                    if data == DONE:
                        announced = True
                        break
                    delta = reader.read(data) if data is not None else None
                    if delta is not None:
                        yield delta
            calls, finish = reader.end(was_announced=announced)
            if calls is not None:
                yield calls
            await call.drain()
            yield finish
        finally:
            call.close()

    @staticmethod
    async def _lines(call: Call, reader: AnswerReader) -> list[bytes]:
        """The next lines, or none. Once the answer is whole, a break or a silence only costs the figures after it."""
        try:
            return await call.lines()
        except BackendError:
            if reader.is_whole:
                return []
            raise

    async def embed(self, request: EmbeddingRequest, *, request_id: str, timeouts: CallTimeouts) -> EmbeddingAnswer:
        """One vector per input, in order, all of one dimension. The first-byte limit covers the whole computation."""
        body = encode(openai_upstream.embedding_body(request, self._quirks))
        call = await self._open("POST", EMBEDDINGS, body, request.model, request_id, self._service.capped(timeouts))
        try:
            answer = await call.body(EMBEDDING_BASE_BYTES + EMBEDDING_VECTOR_BYTES * len(request.inputs))
        finally:
            call.close()
        return structs.replace(read_embedding(answer, request), backend=self.name)

    # --- questions
    async def models(self) -> list[ModelInfo]:
        """What the server has, as it lists it, and what the configuration adds; the latter alone where discovery is
        off."""
        found = {info.name: info for info in await self._discovered()} if self._service.enable_discovery else {}
        return [*found.values(), *(ModelInfo(name=name) for name in self._service.models if name not in found)]

    async def _discovered(self) -> list[ModelInfo]:
        if self._quirks.inventory == "lm_studio" and (own := await self._studio()) is not None:
            return openai_compatible_models.read_studio_models(own)
        return openai_compatible_models.read_models(await self._get(MODELS))

    async def loaded(self) -> list[LoadedModel]:
        """Models in memory, of the servers that tell; else none."""
        if self._quirks.inventory == "llama_cpp":
            return openai_compatible_models.read_loaded(await self._get(MODELS))
        if self._quirks.inventory == "lm_studio" and (own := await self._studio()) is not None:
            return openai_compatible_models.read_studio_loaded(own)
        return []

    async def version(self) -> str:
        """What the server calls itself, if it does. As a probe it shows that the server answers and takes the key."""
        call = await self._open("GET", MODELS, timeouts=self._ask_timeouts)
        try:
            await call.drain()
            return call.headers.get("Server", "")
        finally:
            call.close()

    # --- plumbing
    async def _studio(self) -> bytes | None:
        """LM Studio's own list; None from a version that has none yet."""
        try:
            return await self._get(STUDIO_MODELS, prefix="")
        except (BackendMisconfigured, ModelNotFound):
            return None

    async def _get(self, path: str, *, prefix: str | None = None) -> bytes:
        call = await self._open("GET", path, timeouts=self._ask_timeouts, prefix=prefix)
        try:
            return await call.body(MAX_LIST_BYTES)
        finally:
            call.close()

    async def _open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        model: str = "",
        request_id: str = "",
        timeouts: CallTimeouts | None = None,
        prefix: str | None = None,
    ) -> Call:
        """An answer of 200. Raises the classified error for any other."""
        full_path = (self._prefix if prefix is None else prefix) + path
        call = await self._upstream.open(
            method, full_path, body, request_id=request_id, timeouts=timeouts or self._ask_timeouts
        )
        if call.status == 200:
            return call
        try:
            text = await call.error_text()
        finally:
            call.close()
        raise classify(call.status, text, endpoint=path, model=model, headers=call.headers, secret=self._service.key)


async def _nothing() -> AsyncGenerator[Delta | Finish, None]:
    yield Finish(reason="stop", usage=Usage())
