"""Arriero for MCP clients: a model's own program (an editor, an agent) gets the queue as tools.

Tools are thin: each is one or two calls of `AsyncClient`. An answer somebody stops waiting for is cancelled; a job that
was submitted is not. Failures are results with `is_error` and one line that says what to do, for the model to read.

Needs the package `mcp`, the extra `arriero[mcp]`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from arriero.cli.failures import describe
from arriero.client import AsyncClient
from arriero.errors import ArrieroClientError, JobFailed, WaitTimeout
from arriero.models import Job, JsonObject
from arriero.models_on_offer import first_chat_model, first_embedding_model, names

CANCEL_S = 5.0
"""How long a call that nobody waits for any more may take to cancel its job."""
LONGEST_WAIT_S = 60.0
"""MCP clients give up on a silent call after about a minute."""
INSTRUCTIONS = (
    "Language models behind a durable queue. `chat` and `embed` wait for their answer. For work that takes minutes, "
    "`submit_job`, then ask `job_status` until `finished` is true; the job survives whatever happens meanwhile."
)

Model = Annotated[str, Field(description="Name from list_models; empty: the first that fits.")]
Priority = Annotated[Literal["high", "normal", "low"], Field(description="Which waiting jobs go first.")]


class Answer(BaseModel):
    """What a model said."""

    text: str
    model: str
    job_id: str


class Vectors(BaseModel):
    """One vector per text, in order."""

    vectors: list[list[float]]
    model: str


class JobStatus(BaseModel):
    """A job as it stands; `text` or `vectors` once it has succeeded, `error` once it has failed."""

    job_id: str
    status: str
    finished: bool
    position: int | None = Field(default=None, description="Place in line while it waits, from 1.")
    text: str | None = None
    vectors: list[list[float]] | None = None
    error: str | None = None

    @classmethod
    def of(cls, job: Job) -> JobStatus:
        return cls(
            job_id=job.id,
            status=job.status,
            finished=job.is_terminal,
            position=job.position,
            text=job.text or None,
            vectors=job.vectors or None,
            error=job.error.message if job.error else None,
        )


@contextlib.contextmanager
def told_clearly() -> Iterator[None]:
    """The client's errors as results that the model can read; anything else is a defect, and the SDK logs it."""
    try:
        yield
    except ArrieroClientError as exc:
        raise ToolError(describe(exc)[0]) from exc


async def answered(client: AsyncClient, job: Job) -> Job:
    """The job once it has succeeded; cancelled with the call. Raises JobFailed."""
    try:
        ended = await client.wait(job.id)
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(CANCEL_S, shield=True), contextlib.suppress(ArrieroClientError):
            await client.cancel(job.id)
        raise
    if not ended.succeeded:
        raise JobFailed(ended)
    return ended


class Tools:
    """The tools, bound to one gateway. `default_model`: what `chat` asks when no model is named."""

    def __init__(self, client: AsyncClient, default_model: str = "") -> None:
        self._client = client
        self._default_model = default_model

    async def chat(
        self,
        prompt: Annotated[str, Field(min_length=1, description="What to ask.")],
        model: Model = "",
        system: Annotated[str, Field(description="How the model should behave.")] = "",
        max_tokens: Annotated[int | None, Field(ge=1, description="Longest answer.")] = None,
        priority: Priority = "normal",
    ) -> Answer:
        """Ask a language model and wait for its answer."""
        with told_clearly():
            messages = [{"role": "system", "content": system}] if system else []
            request: dict[str, object] = {
                "model": model or self._default_model or await self._first(first_chat_model),
                "messages": [*messages, {"role": "user", "content": prompt}],
            }
            if max_tokens:
                request["max_tokens"] = max_tokens
            submitted = await self._client.enqueue("chat.completion", request, priority=priority)
            job = await answered(self._client, submitted)
            return Answer(text=job.text, model=job.model, job_id=job.id)

    async def embed(
        self,
        texts: Annotated[list[str], Field(min_length=1, description="What to turn into vectors.")],
        model: Model = "",
    ) -> Vectors:
        """Turn texts into vectors, for search and comparison."""
        with told_clearly():
            request = {"model": model or await self._first(first_embedding_model), "input": texts}
            submitted = await self._client.enqueue("embedding", request)
            job = await answered(self._client, submitted)
            return Vectors(vectors=job.vectors, model=job.model)

    async def submit_job(
        self,
        type: Annotated[Literal["chat.completion", "completion", "embedding"], Field(description="What to do.")],
        request: Annotated[dict[str, object], Field(description="The body OpenAI's API takes for it, with its model.")],
        priority: Priority = "normal",
        delay_seconds: Annotated[float, Field(ge=0, description="Earliest start, from now.")] = 0,
    ) -> JobStatus:
        """Put work into the queue and return at once."""
        with told_clearly():
            job = await self._client.enqueue(type, request, priority=priority, delay_seconds=delay_seconds)
            return JobStatus.of(job)

    async def job_status(
        self,
        job_id: Annotated[str, Field(min_length=1, description="From submit_job or chat.")],
        wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S, description="Wait so long for its end.")] = 0,
    ) -> JobStatus:
        """How a job stands, and its answer once it has ended."""
        with told_clearly():
            try:
                job = await (self._client.wait(job_id, wait_seconds) if wait_seconds else self._client.get(job_id))
            except WaitTimeout as exc:
                job = exc.job
            return JobStatus.of(job)

    async def list_models(self) -> list[str]:
        """The models that can be asked."""
        with told_clearly():
            return names(await self._listing())

    async def _first(self, choose: Callable[[JsonObject], str]) -> str:
        """The first model that fits. Raises ToolError when none does."""
        if name := choose(await self._listing()):
            return name
        raise ToolError("no model that can do this is installed; list_models names those that are")

    async def _listing(self) -> JsonObject:
        return await self._client.request("GET", "/v1/models")


class ToolServer(MCPServer[None]):
    """The SDK's server, with arguments that do not fit told in one line."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the SDK's. Raises ToolError."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as exc:
            if not isinstance(exc.__cause__, ValidationError):
                raise
            faults = exc.__cause__.errors(include_url=False, include_context=False)
            told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
            raise ToolError(f"the arguments do not fit: {told}") from exc.__cause__


def build(client: AsyncClient, *, version: str, default_model: str = "") -> MCPServer[None]:
    """The server with its tools; it closes `client` when it ends."""

    @contextlib.asynccontextmanager
    async def closing(_: MCPServer[None]) -> AsyncIterator[None]:
        async with client:
            yield

    # Standard error is where a client shows its user what went wrong: not every call belongs there.
    server = ToolServer(
        "arriero",
        version=version,
        instructions=INSTRUCTIONS,
        log_level="WARNING",
        lifespan=closing,
        subscriptions=False,
    )
    tools = Tools(client, default_model)
    looks, adds = ToolAnnotations(read_only_hint=True), ToolAnnotations(read_only_hint=False, destructive_hint=False)
    server.add_tool(tools.chat, annotations=adds)
    server.add_tool(tools.embed, annotations=adds)
    server.add_tool(tools.submit_job, annotations=adds)
    server.add_tool(tools.job_status, annotations=looks)
    server.add_tool(tools.list_models, annotations=looks)
    return server
