"""Bytes for what crosses Redis: msgpack, typed on the way in, versioned where it is stored. No pickle.

Stored jobs and results keep arq's outer form (`t f a k et`, `s r st ft q id`), so arq's own tools can read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from shared.errors import BY_CODE, ArrieroError, BadRequest, ErrorRecord, UndecodableJob
from shared.jobs import Kind
from shared.routes import Route
from shared.wire.canonical import (
    ChatRequest,
    CompletionRequest,
    Delta,
    EmbeddingAnswer,
    EmbeddingRequest,
    Request,
    TextAnswer,
)
from shared.wire.operations import ModelOperation, OperationAnswer, OperationProgress

R = TypeVar("R")

SCHEMA_VERSION = 1
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""Larger stored jobs are refused before decoding."""

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""msgpack bytes of a struct, dataclass, dict, list or scalar."""


class JobSpec(msgspec.Struct, Generic[R], kw_only=True, omit_defaults=True):
    """arq's keyword arguments of a job. Its request stays packed until its kind is known."""

    v: int
    request: R
    restartable: bool = False
    tenant: str = ""
    no_store: bool = False
    local_only: bool = False
    route: Route | None = None
    request_id: str = ""
    """Correlation id of the HTTP request, for the logs of whoever runs the job."""
    cache_as: str = ""


@dataclass(slots=True)
class StoredJob:
    """arq's form of a queued job: function name and arguments."""

    f: str
    k: JobSpec[msgspec.Raw]
    et: int
    t: int | None = None
    a: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class StoredResult:
    """arq's form of a finished job. `r` is the canonical answer in msgpack when `s`, else an error record."""

    s: bool
    r: bytes | ErrorRecord
    t: int
    f: str
    et: int
    st: int
    ft: int
    q: str
    id: str
    a: list[Any] = field(default_factory=list)
    k: dict[str, Any] = field(default_factory=dict)


_job = msgspec.msgpack.Decoder(StoredJob)
_result = msgspec.msgpack.Decoder(StoredResult)
_deltas = msgspec.msgpack.Decoder(list[Delta])
_error = msgspec.msgpack.Decoder(ErrorRecord)
_requests: dict[str, msgspec.msgpack.Decoder[Any]] = {
    Kind.CHAT: msgspec.msgpack.Decoder(ChatRequest),
    Kind.COMPLETION: msgspec.msgpack.Decoder(CompletionRequest),
    Kind.EMBEDDING: msgspec.msgpack.Decoder(EmbeddingRequest),
}
_text_answer = msgspec.msgpack.Decoder(TextAnswer)
_operation = msgspec.msgpack.Decoder(ModelOperation)
_operation_progress = msgspec.msgpack.Decoder(list[OperationProgress])
_operation_answer = msgspec.msgpack.Decoder(OperationAnswer)
_embedding_answer = msgspec.msgpack.Decoder(EmbeddingAnswer)


def encode_job(
    kind: str, request: object, *, restartable: bool, enqueued_ms: int, tenant: str = "", no_store: bool = False,
    local_only: bool = False, route: Route | None = None, request_id: str = "", cache_as: str = "",
) -> bytes:  # fmt: skip
    """A job as it is stored. One that may not leave our machines is not kept either, and says so by itself: whoever
    changes its route later cannot lose that."""
    local_only = local_only or (route is not None and route.local_only)
    spec = JobSpec(
        v=SCHEMA_VERSION, request=request, restartable=restartable, tenant=tenant,
        no_store=no_store or local_only, local_only=local_only, route=route, request_id=request_id, cache_as=cache_as,
    )  # fmt: skip
    return encode({"t": None, "f": kind, "a": (), "k": spec, "et": enqueued_ms})


def decode_job(payload: bytes) -> StoredJob:
    """Raises UndecodableJob for foreign bytes (a pickle among them), an unknown version or an oversized payload."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise UndecodableJob(f"The stored job has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are read.")
    try:
        job = _job.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise UndecodableJob(f"The stored job is not a job of this queue: {exc}.") from exc
    if job.k.v != SCHEMA_VERSION:
        raise UndecodableJob(
            f"The stored job has schema version {job.k.v}, this worker reads {SCHEMA_VERSION}. "
            "Submit it again once workers and gateways run the same release."
        )
    return job


def decode_request(kind: str, raw: msgspec.Raw) -> Request:
    """The typed request. Raises BadRequest naming the field that does not fit."""
    decoder = _requests.get(kind)
    if decoder is None:
        raise UndecodableJob(f"Jobs of kind {kind!r} are not known to this worker.")
    try:
        request: Request = decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise BadRequest(f"The job's request is not valid: {exc}.") from exc
    return request


def decode_operation(raw: msgspec.Raw) -> ModelOperation:
    """The request of a `model_op` job. Raises BadRequest naming the field that does not fit."""
    try:
        return _operation.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise BadRequest(f"The operation is not valid: {exc}.") from exc


def encode_result(
    *, succeeded: bool, value: bytes | ErrorRecord, attempt: int, kind: str, enqueued_ms: int, started_ms: int,
    finished_ms: int, queue_name: str, job_id: str,
) -> bytes:  # fmt: skip
    return encode(
        {
            "s": succeeded, "r": value, "t": attempt, "f": kind, "a": (), "k": {}, "et": enqueued_ms,
            "st": started_ms, "ft": finished_ms, "q": queue_name, "id": job_id,
        }
    )  # fmt: skip


def decode_result(stored: bytes) -> StoredResult:
    return _result.decode(stored)


def decode_deltas(data: bytes) -> list[Delta]:
    return _deltas.decode(data)


def decode_progress(data: bytes) -> list[OperationProgress]:
    """A chunk of a `model_op` job."""
    return _operation_progress.decode(data)


def decode_operation_answer(data: bytes) -> OperationAnswer:
    """The answer of a succeeded `model_op` job."""
    return _operation_answer.decode(data)


def decode_answer(kind: str, data: bytes) -> TextAnswer | EmbeddingAnswer:
    """The canonical answer of a succeeded job."""
    return _embedding_answer.decode(data) if kind == Kind.EMBEDDING else _text_answer.decode(data)


def decode_error(stored: bytes) -> ErrorRecord | None:
    """An error field: msgpack of a record, or `@code` as the scripts write it."""
    if not stored:
        return None
    if stored.startswith(b"@"):
        return from_code(stored[1:].decode())
    return _error.decode(stored)


def from_code(code: str) -> ErrorRecord:
    """The record a script means by a bare code, with that error's standing message."""
    return BY_CODE.get(code, ArrieroError)().record()
