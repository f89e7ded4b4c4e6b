"""What the batch face reads and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.batches.model import Endpoint
from gateway.openapi_answers import Answer, Count
from gateway.routes.submission import MAX_METADATA, MetadataName, MetadataText
from shared.wire.openai_fields import Wire

UnixTime = Annotated[int, Field(ge=0, description="Unix time in seconds.")]


class FileForm(BaseModel):
    """POST /v1/files, a form."""

    purpose: Literal["batch"]
    file: Annotated[bytes, Field(min_length=1, description="One request a line.")]


class BatchBody(Wire):
    """POST /v1/batches."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=64)]
    endpoint: Endpoint
    completion_window: Literal["24h"]
    # Two less than a job's: its jobs carry the batch's id and the request's own, too.
    metadata: dict[MetadataName, MetadataText] | None = Field(None, max_length=MAX_METADATA - 2)


class PageQuery(BaseModel):
    """Query of the lists."""

    model_config = ConfigDict(extra="ignore")

    after: str = Field("", max_length=64, description="Id of the last one of the page before.")
    limit: int = Field(20, ge=1, le=100, description="Most on a page.")


class File(Answer):
    id: str
    object: Literal["file"]
    bytes: Count
    created_at: UnixTime
    expires_at: UnixTime
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FileList(Answer):
    object: Literal["list"]
    data: list[File]
    has_more: bool


class DeletedFile(Answer):
    id: str
    object: Literal["file"]
    deleted: Literal[True]


class RequestCounts(Answer):
    total: Count
    completed: Count
    failed: Count


class BatchAnswer(Answer):
    model_config = ConfigDict(title="Batch")

    id: str
    object: Literal["batch"]
    endpoint: Endpoint
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal["in_progress", "completed", "expired", "cancelling", "cancelled"]
    output_file_id: str | None
    error_file_id: Annotated[str | None, Field(description="Requests without an answer: failed, cancelled, expired.")]
    created_at: UnixTime
    expires_at: UnixTime
    completed_at: UnixTime | None
    cancelling_at: UnixTime | None
    cancelled_at: UnixTime | None
    expired_at: UnixTime | None
    request_counts: RequestCounts
    metadata: dict[str, str]


class BatchList(Answer):
    object: Literal["list"]
    data: list[BatchAnswer]
    has_more: bool


BATCH_ANSWERS: tuple[type[Answer], ...] = (File, FileList, DeletedFile, BatchAnswer, BatchList)
