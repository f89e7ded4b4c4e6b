"""What the gateway answers, as models that only describe.

`openapi.py` turns them into schemas; tests hold rendered answers to them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
UnixSeconds = Annotated[float, Field(ge=0, description="Unix time in seconds.")]


class Answer(BaseModel):
    """Fields may be added in later versions; those named here stay."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class ErrorDetail(Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(Answer):
    error: ErrorDetail


class CallFunction(Answer):
    name: str
    arguments: Annotated[str, Field(description="JSON text of an object.")]


class Call(Answer):
    id: str
    type: Literal["function"]
    function: CallFunction


class AssistantTurn(Answer):
    role: Literal["assistant"]
    content: str | None


class TokenLogprob(Answer):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprobs(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Answer):
    content: list[TokenLogprobs] | None


class ChatChoice(Answer):
    index: Count
    message: AssistantTurn
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class TokenUsage(Answer):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: TokenUsage


class ChunkChoice(Answer):
    index: Count
    delta: Annotated[dict[str, Any], Field(description="role, content, reasoning or tool_calls")]
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class ChatCompletionChunk(Answer):
    """One `data:` frame of a chat stream. The stream ends with `data: [DONE]`, or with an error frame."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: Count
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]


class CompletionLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[Count]


class CompletionChoice(Answer):
    text: str
    index: Count
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class Completion(Answer):
    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    system_fingerprint: str | None
    choices: list[CompletionChoice]
    usage: TokenUsage


class Embedding(Answer):
    object: Literal["embedding"]
    index: Count
    embedding: Annotated[list[float] | str, Field(description="Numbers, or base64 of little-endian float32.")]


class PromptUsage(Answer):
    prompt_tokens: Count
    total_tokens: Count


class EmbeddingList(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: PromptUsage


class Model(Answer):
    id: str
    object: Literal["model"]
    created: Count
    owned_by: str


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class JobError(Answer):
    code: str
    message: str
    type: str
    retryable: bool


class JobAttempt(Answer):
    number: Count
    worker: str
    backend: str | None
    model: str | None
    started_at: UnixSeconds
    first_token_at: UnixSeconds | None
    ended_at: UnixSeconds | None
    outcome: Literal[
        "running", "succeeded", "failed", "retried", "crashed", "drained", "handed_back", "cancelled", "expired"
    ]
    error: JobError | None


class ModelAtService(Answer):
    service: str
    model: Annotated[str, Field(description="Its name there.")]


class JobRoute(Answer):
    candidates: Annotated[list[ModelAtService], Field(description="Where it may run, in the order to try.")]
    reason: Annotated[str, Field(description="Why, in one word: docs/routing.md.")]
    local_only: Annotated[bool, Field(description="It is private: only machines of ours see it.")]


class QueuePlace(Answer):
    position: Annotated[int, Field(ge=1)] | None
    expected_wait_seconds: Annotated[float, Field(ge=0)] | None
    reason: Annotated[
        Literal["waiting_for_slot", "waiting_for_model", "loading_model", "no_worker"] | None,
        Field(
            description="What the job waits for. `waiting_for_model`: no host has its model in memory yet. "
            "`loading_model` may also be said of a job that runs, until its model answers."
        ),
    ]


class Job(Answer):
    id: str
    object: Literal["job"]
    type: Literal["chat.completion", "completion", "embedding"]
    status: Literal["scheduled", "queued", "running", "succeeded", "dead_lettered", "cancelled", "expired"]
    priority: Literal["high", "normal", "low"]
    model: Annotated[str, Field(description="The name asked for, or as RESPONSE_MODEL_NAME says.")]
    route: Annotated[JobRoute | None, Field(description="Null for a replay.")]
    created_at: UnixSeconds
    scheduled_for: UnixSeconds | None
    started_at: UnixSeconds | None
    finished_at: UnixSeconds | None
    deadline_at: UnixSeconds | None
    queue: QueuePlace
    attempts: list[JobAttempt]
    cancel_requested: bool
    result: Annotated[ChatCompletion | Completion | EmbeddingList | None, Field(description="Once it succeeded.")]
    error: JobError | None
    metadata: dict[str, str]


class JobList(Answer):
    object: Literal["list"]
    data: list[Job]
    has_more: bool
    next_cursor: Annotated[str, Field(description="Send it as `cursor` for the next page; empty at the end.")]


class RefusedJob(Answer):
    object: Literal["job.refused"]
    error: ErrorDetail


class JobBatch(Answer):
    object: Literal["list"]
    data: Annotated[list[Job | RefusedJob], Field(description="In the order of the jobs sent.")]
    accepted: Count
    refused: Count


class WorkerSeen(Answer):
    id: str
    host: str
    pid: Count
    slots: Count
    running: Count
    seen_s_ago: float
    version: str


class QueueStats(Answer):
    object: Literal["queue.stats"]
    states: dict[str, Count]
    queued_by_class: dict[str, Count]
    oldest_wait_s: float
    counters: dict[str, int]
    workers: list[WorkerSeen]
    dead_letters: Count
    payload_bytes: Annotated[int, Field(description="Requests of unfinished jobs.")]
    drain_per_s: Annotated[float | None, Field(description="Jobs ended a second while jobs waited.")]
    redis_used_memory_bytes: Count
    redis_version: str
    durability: str
    takes_writes: Annotated[bool, Field(description="False: Redis' disk is full, and it refuses jobs.")]


class QueueCleared(Answer):
    object: Literal["queue.cleared"]
    cancelled: Count


ANSWERS: tuple[type[Answer], ...] = (
    Error,
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    EmbeddingList,
    Model,
    ModelList,
    Job,
    JobList,
    JobBatch,
    QueueStats,
    QueueCleared,
)
