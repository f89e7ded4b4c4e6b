"""What the direct face reads and answers: the bodies that are checked, and the answers, which only describe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.openapi_answers import Answer, Count
from gateway.routes.submission import MAX_METADATA, MetadataName, MetadataText, TemplateName, Variables
from gateway.routing_inputs import AUTO
from gateway.worker_types import WORKER_TYPE_PATTERN
from shared.jobs import NewJob
from shared.wire.canonical import TextAnswer
from shared.wire.openai_fields import ModelName, Wire

Prompt = Annotated[str, Field(min_length=1, description="At most MAX_PROMPT_CHARS characters.")]
WorkerTypeName = Annotated[
    str,
    Field(
        pattern=WORKER_TYPE_PATTERN,
        description="Of GET /workers/types; `auto`, or a name nobody knows, leaves the choice to routing.",
    ),
]
ConversationId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="A name of your own. What is said under it is remembered for a while, and sent along.",
    ),
]
ModelId = Annotated[ModelName | None, Field(description="Default: the worker type's own, or that of the task.")]


class DirectGenerateBody(Wire):
    """POST /generate: a prompt, or a template in its place."""

    prompt: Prompt | None = None
    template: TemplateName | None = None
    variables: Variables = Field(default_factory=dict)
    worker_type: WorkerTypeName
    model_id: ModelId = None


class DirectChatBody(Wire):
    """POST /chat and /chat/stream."""

    message: Prompt
    worker_type: WorkerTypeName = AUTO
    model_id: ModelId = None
    conversation_id: ConversationId | None = None
    context: dict[MetadataName, MetadataText] = Field(
        default_factory=dict,
        max_length=MAX_METADATA,
        description="Up to 16 texts of your own, such as `project_id`. They become the job's metadata; no model sees "
        "them.",
    )


class DirectFigures(Answer):
    generation_time: Annotated[float, Field(ge=0, description="Seconds the model server took; 0 if it did not say.")]
    tokens_used: Annotated[Count, Field(description="Of the prompt and of the answer.")]


class DirectGeneration(Answer):
    success: Literal[True]
    response: str
    worker_type: str
    model_id: Annotated[str, Field(description="The model asked for, or the one that stood in.")]
    metadata: DirectFigures


class DirectReply(DirectGeneration):
    conversation_id: str | None
    remembered: Annotated[bool, Field(description="Whether the conversation now holds this message and its answer.")]


class WorkerKind(Answer):
    worker_type: str
    description: str
    aliases: list[str]
    available: bool
    reason: Annotated[str | None, Field(description="Why it cannot be asked.")]


class WorkerKinds(Answer):
    worker_types: list[WorkerKind]


class UsableWorker(Answer):
    worker_type: str
    description: str
    models: Annotated[Count, Field(description="Models it can be asked for.")]


class UnusableWorker(Answer):
    worker_type: str
    reason: str


class UsableWorkers(Answer):
    workers: list[UsableWorker]
    unavailable: list[UnusableWorker]


class WorkerModel(Answer):
    model_id: str
    size_bytes: Count


class WorkerModels(Answer):
    worker_type: str
    models: list[WorkerModel]


class PromptTemplate(Answer):
    name: str
    variables: Annotated[list[str], Field(description="Each must be given, and no other.")]


class PromptTemplates(Answer):
    templates: list[PromptTemplate]


class DirectErrorDetail(Answer):
    error_code: str
    message: str
    type: str
    details: Annotated[dict[str, Any], Field(description="Empty unless DEBUG is on.")]


class DirectError(Answer):
    success: Literal[False]
    error: DirectErrorDetail
    timestamp: str


DIRECT_ANSWERS: tuple[type[Answer], ...] = (
    DirectGeneration,
    DirectReply,
    WorkerKinds,
    UsableWorkers,
    WorkerModels,
    PromptTemplates,
    DirectError,
)


def generation_body(job: NewJob, worker_type: str, answer: TextAnswer) -> dict[str, Any]:
    """The answer to /generate."""
    return {
        "success": True,
        "response": answer.content,
        "worker_type": worker_type,
        "model_id": answer.model if answer.fallback_from else job.model,
        "metadata": {
            "generation_time": round(answer.timings.total_s, 3),
            "tokens_used": answer.usage.prompt_tokens + answer.usage.completion_tokens,
        },
    }


def reply_body(
    job: NewJob, worker_type: str, answer: TextAnswer, conversation_id: str | None, *, remembered: bool
) -> dict[str, Any]:
    """The answer to /chat, and the last event of /chat/stream."""
    return {
        **generation_body(job, worker_type, answer),
        "conversation_id": conversation_id,
        "remembered": remembered,
    }
