"""Ollama's native HTTP API as a `Backend`.

Upstream calls always stream, for non-streaming callers too: failures show early, and cancelling closes the
connection, which is how Ollama is told to stop. An answer counts only once a line with `done` was read. What a server
may send after that line is not part of the answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from msgspec.structs import replace

from shared.backends import ollama_answers, ollama_import, ollama_models, ollama_requests
from shared.backends.base import CallTimeouts, LoadedModel, ModelInfo
from shared.backends.call import MAX_BODY_BYTES, MAX_LINE_BYTES, Call
from shared.backends.http import Upstream
from shared.backends.ollama_answers import ChatReader, GenerateReader
from shared.backends.ollama_errors import classify, incomplete, is_cloud_model
from shared.backends.ollama_import import Weights
from shared.backends.ollama_models import ModelDetails, PullProgress
from shared.backends.ollama_requests import KeepAlive
from shared.errors import BackendProtocolError, BackendRejected
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Finish,
)

ASK_TIMEOUTS = CallTimeouts(connect_s=5.0, first_byte_s=10.0, gap_s=10.0, total_s=15.0)
"""For questions that need no model: tags, ps, show, version, copy, delete, unload."""
LOAD_TIMEOUTS = CallTimeouts(connect_s=5.0, first_byte_s=600.0, gap_s=60.0, total_s=600.0)
"""Patient: a load that loses the client who began it is thrown away by the server, for everybody."""
EMBEDDING_BASE_BYTES = 64 * 1024
EMBEDDING_VECTOR_BYTES = 512 * 1024
"""For one vector in an answer: 16384 numbers of 32 characters. What is longer is not read to its end."""
PULL_TIMEOUTS = CallTimeouts(connect_s=5.0, first_byte_s=60.0, gap_s=120.0, total_s=86400.0)


class OllamaBackend:
    """One Ollama server.

    `pool_size` bounds the connections, `keep_alive` is sent where a request brings none (None: the server's own
    default). Names of models in Ollama's cloud are refused unless `allow_cloud`, because the server would pass the
    prompt on. The server does the same, unseen, for a local name that stands for a cloud model; `models` leaves those
    out, and OLLAMA_NO_CLOUD=1 on the server shuts that door.
    """

    def __init__(
        self,
        base_url: str,
        *,
        pool_size: int = 100,
        max_line_bytes: int = MAX_LINE_BYTES,
        keep_alive: KeepAlive = None,
        allow_cloud: bool = False,
        key: str = "",
        verify_cert: bool = True,
        is_ours: bool = True,
    ) -> None:
        """`key`: for a proxy before the server that wants one; Ollama itself knows none. `is_ours`: as for
        `Upstream`."""
        self._upstream = Upstream(
            base_url,
            pool_size=pool_size,
            max_line_bytes=max_line_bytes,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            verify_cert=verify_cert,
            is_ours=is_ours,
        )
        self._keep_alive = keep_alive
        self._allow_cloud = allow_cloud

    @property
    def loads_models(self) -> bool:
        return True

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
        return self._generate(
            lambda: ollama_requests.chat_body(request, self._keep_alive),
            ChatReader(request.model),
            request_id,
            timeouts,
        )

    def complete(
        self, request: CompletionRequest, *, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        """As `chat`, for a plain prompt."""
        return self._generate(
            lambda: ollama_requests.generate_body(request, self._keep_alive),
            GenerateReader(request.model),
            request_id,
            timeouts,
        )

    async def _generate(
        self, body: Callable[[], bytes], reader: ChatReader, request_id: str, timeouts: CallTimeouts
    ) -> AsyncGenerator[Delta | Finish, None]:
        self._refuse_cloud(reader.model)
        call = await self._upstream.open(
            "POST", reader.endpoint, body(), request_id=request_id, timeouts=timeouts, line_factor=reader.line_factor
        )
        try:
            await self._expect_ok(call, reader.endpoint, reader.model)
            seen = False
            finish = None
            while finish is None:
                lines = await call.lines()
                if not lines:
                    raise incomplete(seen)
                for line in lines:
                    if not line or line.isspace():
                        continue
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
        """One vector per input, in order, all of one dimension. The first-byte limit covers the whole computation."""
        body = ollama_requests.embed_body(request, self._keep_alive)
        limit = EMBEDDING_BASE_BYTES + EMBEDDING_VECTOR_BYTES * len(request.inputs)
        answer = await self._ask("POST", "/api/embed", body, request.model, request_id, timeouts, max_bytes=limit)
        return replace(ollama_answers.read_embedding(answer, request), backend=self.name)

    # --- questions
    async def models(self, *, timeouts: CallTimeouts = ASK_TIMEOUTS) -> list[ModelInfo]:
        """Installed models, newest first."""
        answer = await self._ask("GET", "/api/tags", timeouts=timeouts)
        return ollama_models.read_tags(answer, with_cloud=self._allow_cloud)

    async def loaded(self, *, timeouts: CallTimeouts = ASK_TIMEOUTS) -> list[LoadedModel]:
        """Models in memory. Newer servers do not list one that is still loading."""
        return ollama_models.read_ps(await self._ask("GET", "/api/ps", timeouts=timeouts))

    async def version(self, *, timeouts: CallTimeouts = ASK_TIMEOUTS) -> str:
        """The server's version; the cheapest health probe. It answers while every model is broken."""
        return ollama_models.read_version(await self._ask("GET", "/api/version", timeouts=timeouts))

    async def show(self, model: str, *, timeouts: CallTimeouts = ASK_TIMEOUTS) -> ModelDetails:
        """What the server knows of one installed model. Raises ModelNotFound."""
        body = ollama_requests.encode({"model": model})
        return ollama_models.read_show(await self._ask("POST", "/api/show", body, model, timeouts=timeouts))

    # --- management
    async def load(
        self,
        model: str,
        *,
        keep_alive: KeepAlive = None,
        request_id: str = "",
        timeouts: CallTimeouts = LOAD_TIMEOUTS,
    ) -> None:
        """Bring a model into memory and return once it is there. Raises ModelNotFound, ModelFault."""
        order = {"model": model, "stream": False} | self._kept(keep_alive)
        try:
            answer = await self._ask(
                "POST", "/api/generate", ollama_requests.encode(order | {"prompt": ""}), model, request_id, timeouts
            )
        except BackendRejected as refused:
            # An embedding model refuses to generate, and the wording of that is not to be relied on.
            try:
                answer = await self._ask(
                    "POST", "/api/embed", ollama_requests.encode(order | {"input": []}), model, request_id, timeouts
                )
            except BackendRejected:
                raise refused from None
        ollama_models.check_loaded(answer)

    async def unload(self, model: str, *, request_id: str = "", timeouts: CallTimeouts = ASK_TIMEOUTS) -> None:
        """Ask for a model to leave memory; it goes once its running requests end, and may be listed as loaded until
        then."""
        order = {"model": model, "stream": False, "prompt": "", "keep_alive": 0}
        answer = await self._ask("POST", "/api/generate", ollama_requests.encode(order), model, request_id, timeouts)
        ollama_models.check_loaded(answer)

    async def pull(
        self, model: str, *, request_id: str = "", timeouts: CallTimeouts = PULL_TIMEOUTS
    ) -> AsyncGenerator[PullProgress, None]:
        """Download a model; the last step is `success`. Closing the generator stops the download, a later pull
        resumes it."""
        self._refuse_cloud(model)
        body = ollama_requests.encode({"model": model, "stream": True})
        call = await self._upstream.open("POST", "/api/pull", body, request_id=request_id, timeouts=timeouts)
        try:
            await self._expect_ok(call, "/api/pull", model)
            while lines := await call.lines():
                for line in lines:
                    if not line or line.isspace():
                        continue
                    progress = ollama_models.read_pull_line(line, model)
                    if progress.is_done:
                        await call.drain()
                        yield progress
                        return
                    yield progress
            raise BackendProtocolError("The download ended without success. Pull again; it resumes.")
        finally:
            call.close()

    def import_model(self, model: str, weights: Weights, *, request_id: str = "") -> AsyncGenerator[PullProgress, None]:
        """Make a model of a weights file on this machine; steps as those of `pull`."""
        return ollama_import.import_model(self._upstream, model, weights, request_id=request_id)

    async def delete(self, model: str, *, timeouts: CallTimeouts = ASK_TIMEOUTS) -> None:
        """Remove a model from disk. One that is loaded stays in memory. Raises ModelNotFound."""
        await self._ask("DELETE", "/api/delete", ollama_requests.encode({"model": model}), model, timeouts=timeouts)

    async def copy(self, source: str, destination: str, *, timeouts: CallTimeouts = ASK_TIMEOUTS) -> None:
        """Give a model a second name. Raises ModelNotFound when there is no `source`."""
        body = ollama_requests.encode({"source": source, "destination": destination})
        await self._ask("POST", "/api/copy", body, source, timeouts=timeouts)

    # --- plumbing
    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        model: str = "",
        request_id: str = "",
        timeouts: CallTimeouts = ASK_TIMEOUTS,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> bytes:
        """The whole body of an answer of 200. Raises the classified error for any other."""
        self._refuse_cloud(model)
        call = await self._upstream.open(method, path, body, request_id=request_id, timeouts=timeouts)
        try:
            await self._expect_ok(call, path, model)
            return await call.body(max_bytes)
        finally:
            call.close()

    @staticmethod
    async def _expect_ok(call: Call, path: str, model: str) -> None:
        if call.status != 200:
            raise classify(
                call.status,
                await call.error_text(),
                endpoint=path,
                model=model,
                retry_after=call.headers.get("Retry-After"),
            )

    def _kept(self, keep_alive: KeepAlive) -> dict[str, KeepAlive]:
        value = ollama_requests.keep_alive_value(self._keep_alive if keep_alive is None else keep_alive)
        return {} if value is None else {"keep_alive": value}

    def _refuse_cloud(self, model: str) -> None:
        if not self._allow_cloud and is_cloud_model(model):
            raise BackendRejected(
                f"'{model}' names a model in Ollama's cloud and would leave this network. "
                "Use the name of an installed model.",
                param="model",
            )
