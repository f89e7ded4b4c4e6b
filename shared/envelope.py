"""How errors look on the wire: OpenAI's envelope and the headers that tell a client whether and when to try again."""

from __future__ import annotations

import math
import re
from typing import Any

from aiohttp import web

from shared.errors import ArrieroError, ErrorRecord
from shared.random_ids import RandomIds
from shared.wire.openai_render import error_body, to_json

JSON = "application/json"
SERVER_NAME = "arriero"
RETRY_AFTER_RANGE_S = (1, 120)
"""OpenAI's clients give up at once when told to wait longer than 120 s."""
DEFAULT_RETRY_AFTER_S = 2.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REASONS = {408: "Request Timeout", 503: "Service Unavailable"}

new_request_id = RandomIds("req_", 16)


def accepted_request_id(given: str | None) -> str:
    """The caller's id if it is harmless to echo and log, else a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return new_request_id()


def retry_headers(record: ErrorRecord) -> dict[str, str]:
    """`Retry-After` (whole seconds) and `retry-after-ms` on 429 and 503; `x-should-retry` on every error."""
    headers = {"x-should-retry": "true" if record.retryable else "false"}
    if record.http_status in (429, 503) or record.retry_after_s is not None:
        least, most = RETRY_AFTER_RANGE_S
        wait_s = DEFAULT_RETRY_AFTER_S if record.retry_after_s is None else record.retry_after_s
        wait_s = wait_s if math.isfinite(wait_s) else float(most)
        headers["Retry-After"] = str(min(most, max(least, math.ceil(wait_s))))
        headers["retry-after-ms"] = str(int(min(most, max(0.0, wait_s)) * 1000))
    return headers


def error_response(record: ErrorRecord, request_id: str, body: dict[str, Any] | None = None) -> web.Response:
    """`body`: in another form than OpenAI's."""
    sent = to_json(error_body(record, request_id) if body is None else body)
    response = web.Response(status=record.http_status, body=sent, content_type=JSON)
    response.headers.update(retry_headers(record))
    response.headers["x-request-id"] = request_id
    response.headers["Server"] = SERVER_NAME
    return response


def raw_answer(error: ArrieroError) -> bytes:
    """A whole HTTP answer, for a connection on which no request was understood."""
    record, request_id = error.record(), new_request_id()
    body = to_json(error_body(record, request_id))
    lines = [
        f"HTTP/1.1 {record.http_status} {_REASONS[record.http_status]}",
        f"Content-Type: {JSON}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        f"x-request-id: {request_id}",
        *(f"{name}: {value}" for name, value in retry_headers(record).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
