"""The lines of a batch's files: requests in, answers and errors out. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field

from gateway.batches.model import CANCELLED, EXPIRED, LOST, Batch
from gateway.inference import failure
from shared.errors import ArrieroError, BadRequest, ErrorRecord
from shared.jobs import JobRecord, State
from shared.wire.codec import decode_answer
from shared.wire.json_body import parse_json
from shared.wire.openai_fields import Wire
from shared.wire.openai_render import Rendering, answer_body, to_json
from shared.wire.openai_shapes import error_body
from shared.wire.openai_validation import validate

MOST_REQUESTS = 5000
ErrorT = TypeVar("ErrorT", bound=ArrieroError)
_WITHOUT_ANSWER = {
    CANCELLED: ("batch_cancelled", "The batch was cancelled before this request was answered."),
    EXPIRED: ("batch_expired", "The request was not answered within the completion window."),
    LOST: ("result_expired", "Nothing is known any more of what became of this request."),
}


class RequestLine(Wire):
    """One line of an input file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: Annotated[str, Field(min_length=1, max_length=256)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


def read_requests(data: bytes, endpoint: str, max_line_bytes: int) -> list[tuple[int, RequestLine]]:
    """The requests of an input file, each with the number of its line.

    Raises BadRequest that names the first line with a fault.
    """
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise BadRequest("The input file has no requests: it has one JSON object a line.", param="input_file_id")
    if len(lines) > MOST_REQUESTS:
        raise BadRequest(
            f"The input file has {len(lines)} requests; {MOST_REQUESTS} is the most for a batch.", param="input_file_id"
        )
    seen: dict[str, int] = {}
    requests = []
    for number, line in lines:
        try:
            if len(line) > max_line_bytes:
                raise BadRequest(f"It has {len(line)} bytes; a request has {max_line_bytes} at most.")
            one = validate(RequestLine, parse_json(line))
            if one.url != endpoint:
                raise BadRequest(f"`url`: this batch is for {endpoint}.", param="url")
            if (first := seen.setdefault(one.custom_id, number)) != number:
                raise BadRequest(f"`custom_id`: line {first} has the same one.", param="custom_id")
        except BadRequest as error:
            raise at_line(number, error) from None
        requests.append((number, one))
    return requests


def at_line(number: int, error: ErrorT) -> ErrorT:
    """The same error, told of a line of the input file."""
    # What a job calls its request is the body here.
    field = re.sub("^request", "body", error.param or "")
    param = f"line {number}" + (f": {field}" if field else "")
    return type(error)(f"Line {number} of the input file: {error.message}", param=param)


def output_line(batch: Batch, place: int, record: JobRecord | None, outcome: str) -> bytes:
    """What became of one request that has ended."""
    response: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    if outcome in _WITHOUT_ANSWER or (record is None and place not in batch.refused):
        code, message = _WITHOUT_ANSWER.get(outcome, _WITHOUT_ANSWER[LOST])
        error = {"code": code, "message": message}
    elif record is not None and record.state is State.SUCCEEDED and record.result is not None:
        rendering = Rendering.for_job(record.kind, record.id, int(record.created_at), record.shown_model)
        body = answer_body(record.kind, rendering, decode_answer(record.kind, record.result))
        response = _response(200, record.id, body)
    else:
        known: ErrorRecord | None = batch.refused.get(place)
        if known is None:
            assert record is not None
            known = failure(record.state, record.error)
        request_id = batch.job_id(place)
        response = _response(known.http_status, request_id, error_body(known, request_id))
    return to_json(
        {
            "id": f"batch_req_{batch.hex}_{place}",
            "custom_id": batch.custom_ids[place],
            "response": response,
            "error": error,
        }
    ) + b"\n"  # fmt: skip


def _response(status: int, request_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": request_id, "body": body}
