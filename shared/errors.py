"""Every error Arriero raises on purpose, in one tree.

    ArrieroError
    |-- BadRequest 400                the caller's fault; names the field and the remedy
    |   |-- PayloadTooLarge 413       |-- UnsupportedMediaType 415
    |   |-- RequestTimeout 408        |-- IdempotencyMismatch 422
    |-- Unauthenticated 401, Forbidden 403, NotFound 404 (JobNotFound, DeadLetterNotFound, RouteNotFound,
    |   ModelNotFound, OperationNotFound), MethodNotAllowed 405
    |-- OperationConflict 409, ModelInUse 409, ServiceConflict 409
    |-- Overloaded 429                shed at the door: too many jobs wait
    |   |-- TenantQueueFull 429         |-- QueueBytesFull 503          |-- QueueTooSlow 503
    |   |-- MemoryPressure 503          `-- DeadlineUnreachable 503
    |-- QueueUnavailable 503          Redis does not answer
    |-- ServiceUnavailable 503        the service is not configured, or has no key   `-- NoLocalBackend 503
    |-- JobCancelled 409, JobExpired 504, JobLost 503, JobPoisoned 500, PayloadLost 500, UndecodableJob 500,
    |   StreamRestarted 500
    `-- BackendError 502
        |-- BackendUnreachable 503    refused, reset, DNS           |-- BackendTimeout 504   no byte in time
        |-- BackendBusy 503           saturation, not sickness      |-- BackendFault 502     a 5xx
        |-- BackendProtocolError 502  garbage, truncation           |-- ModelFault 502       the model's runner broke
        |   `-- AnswerIncomplete      ended in good order, but early
        |                             `-- ModelLoading            not yet, which is no failure
        |-- BackendMisconfigured 502  wrong URL, version or access  `-- BackendRejected 400  the request is wrong

The class carries what handlers need: `http_status`, OpenAI's `kind` and `code`, `retryable` (the same request may
succeed later) and `trips_breaker` (the backend is unhealthy). An error crosses Redis as an `ErrorRecord`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True, kw_only=True)
class ErrorRecord:
    """An error as data, for job records and events."""

    code: str
    message: str
    kind: str = "server_error"
    http_status: int = 500
    retryable: bool = False
    retry_after_s: float | None = None
    param: str | None = None


class ArrieroError(Exception):
    """Base of the tree. `message` is safe to show to the caller and says what to do next."""

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "server_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    trips_breaker: ClassVar[bool] = False
    quotes: ClassVar[bool] = False
    """`message` may repeat what was asked, in the words of whoever refused it: for the caller, and for nobody else."""

    def __init__(self, message: str = "", *, param: str | None = None, retry_after_s: float | None = None) -> None:
        self.message = message or " ".join((self.__doc__ or "Internal error.").split())
        self.param = param
        self.retry_after_s = retry_after_s
        super().__init__(self.message)

    def record(self) -> ErrorRecord:
        return ErrorRecord(
            code=self.code,
            message=self.message,
            kind=self.kind,
            http_status=self.http_status,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
            param=self.param,
        )


class BadRequest(ArrieroError):
    """The request is not valid."""

    code, kind, http_status = "invalid_request", "invalid_request_error", 400


class PayloadTooLarge(BadRequest):
    """The request body is larger than this gateway accepts."""

    code, http_status = "payload_too_large", 413


class UnsupportedMediaType(BadRequest):
    """Send the body as plain application/json."""

    code, http_status = "unsupported_media_type", 415


class RequestTimeout(BadRequest):
    """The request was not sent in time."""

    code, http_status = "request_timeout", 408


class IdempotencyMismatch(BadRequest):
    """This Idempotency-Key was used before with another body. Use a new key for a new request."""

    code, http_status = "idempotency_mismatch", 422


class Unauthenticated(ArrieroError):
    """A valid API key is needed: send it as `Authorization: Bearer <key>`."""

    code, kind, http_status = "invalid_api_key", "authentication_error", 401


class Forbidden(ArrieroError):
    """This API key's role does not allow that."""

    code, kind, http_status = "forbidden", "permission_error", 403


class NotFound(ArrieroError):
    """There is nothing here."""

    code, kind, http_status = "not_found", "not_found_error", 404


class DeadLetterNotFound(NotFound):
    """No such dead letter. It may have been purged, or removed after its time."""

    code = "dead_letter_not_found"


class RouteNotFound(NotFound):
    """Unknown path. /openapi.json lists what this gateway serves."""

    code = "route_not_found"


class JobNotFound(NotFound):
    """No such job. It may have been removed after its retention time."""

    code = "job_not_found"


class ModelNotFound(NotFound):
    """The model is not installed on any backend."""

    code = "model_not_found"


class CircuitNotFound(NotFound):
    """There is no such circuit."""

    code = "circuit_not_found"


class OperationNotFound(NotFound):
    """No such operation. It may have been removed after its retention time."""

    code = "operation_not_found"


class OperationConflict(ArrieroError):
    """Another operation on this model is under way. Wait for its end, or cancel it."""

    code, kind, http_status = "operation_conflict", "invalid_request_error", 409


class ModelInUse(ArrieroError):
    """The model is pinned, or has jobs that wait or run."""

    code, kind, http_status = "model_in_use", "invalid_request_error", 409


class ServiceConflict(ArrieroError):
    """There is another service of that name, or no room for one more."""

    code, kind, http_status = "service_conflict", "invalid_request_error", 409


class MethodNotAllowed(ArrieroError):
    """This path does not take that method."""

    code, kind, http_status = "method_not_allowed", "invalid_request_error", 405


class Overloaded(ArrieroError):
    """The queue is full. Come back after `Retry-After` seconds."""

    code, kind, http_status, retryable = "queue_full", "rate_limit_error", 429, True
    ends_needed: float = 0.0
    """Jobs that must end before there is room, where the queue does not know how fast they do; 0: it told."""


class TenantQueueFull(Overloaded):
    """This tenant has as many unfinished jobs as it may have. Wait for some to end."""

    code = "tenant_queue_full"


class QueueBytesFull(Overloaded):
    """The waiting requests take all the room there is. Come back after `Retry-After` seconds."""

    code, kind, http_status = "queue_bytes_full", "server_error", 503


class QueueTooSlow(Overloaded):
    """Jobs have been waiting for too long already. Come back after `Retry-After` seconds."""

    code, kind, http_status = "queue_too_slow", "server_error", 503


class MemoryPressure(Overloaded):
    """The queue's Redis is short of memory; what is left is for the jobs under way. Try again shortly."""

    code, kind, http_status = "memory_pressure", "server_error", 503


class DeadlineUnreachable(Overloaded):
    """At the present rate the job would wait past its deadline. Allow it more time, or come back later."""

    code, kind, http_status = "deadline_unreachable", "server_error", 503


class QueueUnavailable(ArrieroError):
    """The queue's Redis does not answer. Try again shortly."""

    code, http_status, retryable = "queue_unavailable", 503, True


class ServiceUnavailable(ArrieroError):
    """The service that was asked for is not available here."""

    code, http_status = "service_unavailable", 503


class NoLocalBackend(ServiceUnavailable):
    """The request is private, and no model host of our own can serve it. Nothing was sent elsewhere."""

    code = "no_local_backend"


class JobLost(ArrieroError):
    """The queue's Redis lost this job, probably in a restart without its append-only file. Send the request again."""

    code, http_status, retryable = "job_lost", 503, True


class JobCancelled(ArrieroError):
    """The job was cancelled."""

    code, kind, http_status = "job_cancelled", "invalid_request_error", 409


class JobExpired(ArrieroError):
    """The job's deadline passed before it could finish."""

    code, http_status = "job_timeout", 504


class JobPoisoned(ArrieroError):
    """The job was running each time a worker died, and was set aside."""

    code = "job_poisoned"


class PayloadLost(ArrieroError):
    """The job's request is missing from Redis. Is its maxmemory-policy `noeviction`? Submit the job again."""

    code = "payload_lost"


class UndecodableJob(ArrieroError):
    """The stored job could not be read by this version. It was set aside unchanged."""

    code = "undecodable_job"


class StreamRestarted(ArrieroError):
    """The job started over on another worker and its text changed. The whole answer is at GET /v1/jobs/{id}."""

    code = "stream_restarted"


class BackendError(ArrieroError):
    """The model server failed."""

    code, http_status, retryable = "backend_error", 502, True


class BackendUnreachable(BackendError):
    """The model server does not answer. Is it running?"""

    code, http_status, trips_breaker = "backend_unreachable", 503, True


class BackendTimeout(BackendError):
    """The model server took too long."""

    code, http_status, trips_breaker = "backend_timeout", 504, True
    limit: str = ""
    """Which limit passed: `first_byte`, `gap` or `total`; empty where that is not known."""


class BackendBusy(BackendError):
    """The model server is at its limit."""

    code, http_status = "backend_busy", 503


class BackendFault(BackendError):
    """The model server reported an internal error."""

    code, trips_breaker = "backend_fault", True


class BackendProtocolError(BackendError):
    """The model server's answer was broken off or not understood."""

    code, trips_breaker = "backend_protocol_error", True
    broke_off: bool = False
    """The connection ended in the middle of the answer: the server may be gone."""


class AnswerIncomplete(BackendProtocolError):
    """The model server ended its answer early. Its host is well, so the breaker does not count this."""

    code, trips_breaker = "answer_incomplete", False


class BackendMisconfigured(BackendError):
    """The model server does not take this call. An operator must check its URL, version and access rules."""

    code, retryable = "backend_misconfigured", False


class ModelFault(BackendError):
    """The model could not be loaded or its runner stopped."""

    code, trips_breaker = "model_fault", True


class ModelLoading(ModelFault):
    """The model is still being loaded. That is no failure: the breaker does not count it."""

    code, http_status, trips_breaker = "model_loading", 503, False


class BackendRejected(BackendError):
    """The model server refused the request as invalid."""

    code, kind, http_status, retryable = "backend_rejected", "invalid_request_error", 400, False
    quotes = True


def _subclasses(cls: type[ArrieroError]) -> list[type[ArrieroError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _subclasses(child))]


BY_CODE: dict[str, type[ArrieroError]] = {cls.code: cls for cls in _subclasses(ArrieroError)}


def shown(record: ErrorRecord) -> str:
    """The error's message for logs and operators, without words that may be the caller's."""
    cls = BY_CODE.get(record.code, ArrieroError)
    return f"({len(record.message)} characters)" if cls.quotes else record.message


def revive(record: ErrorRecord) -> ArrieroError:
    """The exception an `ErrorRecord` was made from; an unknown code gives the base class."""
    cls = BY_CODE.get(record.code, ArrieroError)
    return cls(record.message, param=record.param, retry_after_s=record.retry_after_s)
