"""What the face for model jobs reads and answers: the body that is checked, and the answers, which only describe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from gateway.openapi_answers import Answer, Count, UnixSeconds
from shared.operations.bodies import error_body, progress_body, result_body
from shared.operations.orders import Operation
from shared.services.config import NAME
from shared.wire.operations import OperationName

JobType = Literal["install", "import", "load", "unload", "update", "delete"]
JOB_TYPES: tuple[JobType, ...] = get_args(JobType)
OPERATIONS: dict[JobType, OperationName] = {
    "install": "pull",
    "import": "import",
    "load": "load",
    "unload": "unload",
    "update": "update",
    "delete": "delete",
}
"""The face's word for an operation -> the managers'."""
_TYPES: dict[str, JobType] = {op: job_type for job_type, op in OPERATIONS.items()}


class _Strict(BaseModel):
    # A misspelt field is refused: ignored, it would delete on every host what was to go from one.
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class ModelJobParams(_Strict):
    model_name: str = Field(
        min_length=1, max_length=256, description="Such as `llama3.2:3b`, or `ollama~llama3.2:3b` with its service."
    )
    service_name: str | None = Field(
        None, pattern=NAME, description="Default: the one in the model's name, else the one whose models are managed."
    )
    host: str = Field("", max_length=256, description="One of its machines, host:port. Empty: all of them.")
    file: str = Field(
        "", max_length=512, description="For an import: a .gguf file below the model manager's MODEL_IMPORT_DIR."
    )


class ModelJobBody(_Strict):
    """POST /jobs."""

    type: JobType
    params: ModelJobParams


class ModelJobQuery(BaseModel):
    """Query of GET /jobs/{id}."""

    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        0,
        ge=0,
        le=30,
        allow_inf_nan=False,
        description="Answer when the job has moved on or ended, or after so many seconds.",
    )


class ModelJobListQuery(BaseModel):
    """Query of GET /jobs."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100, description="Most jobs.")


class HostSteps(Answer):
    host: str
    status: str
    completed: Count
    total: Count
    percent: float | None


class ModelJobProgress(Answer):
    """Bytes of all hosts; 0 where bytes say nothing."""

    completed: Count
    total: Count
    percent: float | None
    hosts: list[HostSteps]


class HostEnd(Answer):
    host: str
    outcome: Literal["done", "unchanged", "skipped", "failed"]
    reason: str
    bytes: Count


class ModelJobResult(Answer):
    hosts: list[HostEnd]


class ModelJobError(Answer):
    code: str
    message: str


class ModelJobTarget(Answer):
    service_name: str
    model_name: Annotated[str, Field(description="Its name at the service.")]
    host: Annotated[str | None, Field(description="Null: all hosts.")]
    file: str | None


class ModelJob(Answer):
    id: str
    object: Literal["model.job"]
    type: JobType
    params: ModelJobTarget
    status: Literal["scheduled", "queued", "running", "succeeded", "dead_lettered", "cancelled", "expired"]
    by: str
    reason: str | None
    created_at: UnixSeconds
    started_at: UnixSeconds | None
    finished_at: UnixSeconds | None
    attempts: Count
    progress: ModelJobProgress
    result: ModelJobResult | None
    error: ModelJobError | None


class ModelJobList(Answer):
    object: Literal["list"]
    data: list[ModelJob]


MODEL_JOB_ANSWERS: tuple[type[Answer], ...] = (ModelJob, ModelJobList)


def model_job_body(operation: Operation, service: str) -> dict[str, Any]:
    """`service` is the one whose models the managers manage."""
    record, order = operation.record, operation.order
    return {
        "id": record.id,
        "object": "model.job",
        "type": _TYPES[order.op],
        "params": {
            "service_name": service,
            "model_name": order.model,
            "host": order.host or None,
            "file": order.file or None,
        },
        "status": record.state.value,
        "by": record.metadata["by"],
        "reason": record.metadata["reason"] or None,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.ended_at,
        "attempts": len(record.attempts),
        "progress": progress_body(operation.progress),
        "result": result_body(record),
        "error": error_body(record),
    }
