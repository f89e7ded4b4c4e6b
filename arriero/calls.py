"""The gateway's HTTP calls as values and flows, written once for the blocking and the async client. No I/O in here.

A flow is a generator. It yields an effect (`Call`: send this; `Sleep`: wait so long), is sent a `Reply` or an
`Unanswered` back for a call, and returns the parsed value. `arriero.client` has one driver with blocking calls and one
with awaits.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from arriero.errors import ApiError, GatewayUnreachable, WaitTimeout
from arriero.models import Job, JobPage, JsonObject

LONG_POLL_S = 25.0
"""One long poll's length; below the 30 s at which common proxies give up."""
BATCH_ROWS = 500
"""Jobs of one bulk call; the gateway takes 1000, of 1 MiB together."""
RETRY_BASE_S = 0.2
RETRY_CAP_S = 5.0
BUSY_STATUSES = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. `repeatable`: sending it twice does what sending it once does."""

    method: str
    path: str
    body: JsonObject | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    extra_time_s: float = 0.0
    """How much longer than usual the answer may take, e.g. a long poll."""


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The connection failed. `sent`: the request may have arrived."""

    base_url: str
    reason: str
    sent: bool


Outcome = Reply | Unanswered | None
T = TypeVar("T")
Flow = Generator[Call | Sleep, Outcome, T]


def job_path(job_id: str, suffix: str = "") -> str:
    # An id from outside must stay one path segment.
    return "/v1/jobs/" + "".join(c if c.isalnum() or c in "-_" else "%" + f"{ord(c):02X}" for c in job_id) + suffix


def enqueue_call(type_: str, request: JsonObject, idempotency_key: str, options: Mapping[str, Any]) -> Call:
    """`options` are the keywords of `describe`."""
    return Call("POST", "/v1/jobs", describe(type_, request, **options), headers={"idempotency-key": idempotency_key})


def describe(
    type_: str,
    request: JsonObject,
    *,
    priority: str = "normal",
    delay_seconds: float = 0.0,
    deadline_seconds: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> JsonObject:
    """A job as the gateway takes it."""
    body: dict[str, Any] = {"type": type_, "request": dict(request), "priority": priority}
    if delay_seconds:
        body["delay_seconds"] = delay_seconds
    if deadline_seconds is not None:
        body["deadline_seconds"] = deadline_seconds
    if metadata:
        body["metadata"] = dict(metadata)
    return body


def enqueue_many(
    type_: str, requests: Sequence[JsonObject], key: str, options: Mapping[str, Any], max_retries: int
) -> Flow[list[Job]]:
    """Submit jobs, so many to a call. What the queue refused is among them, with the status `refused`."""
    jobs: list[Job] = []
    for first in range(0, len(requests), BATCH_ROWS):
        rows = [describe(type_, request, **options) for request in requests[first : first + BATCH_ROWS]]
        headers = {"idempotency-key": f"{key}:{first}"}
        jobs += yield from exchange(Call("POST", "/v1/jobs:batch", {"jobs": rows}, headers=headers), _jobs, max_retries)
    return jobs


def _jobs(body: JsonObject) -> list[Job]:
    return [Job.parse(row if "id" in row else {"status": "refused", "error": row.get("error")}) for row in body["data"]]


def list_call(status: str | None, model: str | None, cursor: str, limit: int) -> Call:
    params = {"status": status or "", "model": model or "", "cursor": cursor, "limit": str(limit)}
    return Call("GET", "/v1/jobs", params={name: value for name, value in params.items() if value})


def chat_request(prompt: str | Sequence[JsonObject], model: str, system: str, options: JsonObject) -> JsonObject:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {**options, "model": model, "messages": messages}


def exchange(call: Call, parse: Callable[[JsonObject], T], max_retries: int) -> Flow[T]:
    """Send `call` until it is answered, at most `max_retries` more times.

    Raises ApiError and GatewayUnreachable. A refused connection is tried again for every call, a broken one only if
    the call may be repeated.
    """
    tries = 0
    while True:
        outcome = yield call
        failure: ApiError | GatewayUnreachable
        if isinstance(outcome, Reply):
            if outcome.status < 400:
                return parse(_json_object(outcome))
            failure = api_error(outcome.status, outcome.headers, outcome.body)
            again = outcome.status in BUSY_STATUSES and call.repeatable
            floor_s = failure.retry_after_s or 0.0
        else:
            assert isinstance(outcome, Unanswered)
            failure = GatewayUnreachable(outcome.base_url, outcome.reason)
            again = call.repeatable or not outcome.sent
            floor_s = 0.0
        if not again or tries >= max_retries:
            raise failure
        tries += 1
        yield Sleep(max(floor_s, random.random() * min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(tries, 16))))


def wait(job_id: str, timeout_s: float | None, max_retries: int) -> Flow[Job]:
    """Long-poll until the job has ended. Raises WaitTimeout after `timeout_s` seconds."""
    began = time.monotonic()
    while True:
        left = LONG_POLL_S if timeout_s is None else min(LONG_POLL_S, timeout_s - (time.monotonic() - began))
        poll_s = max(0.0, left)
        call = Call("GET", job_path(job_id), params={"wait": f"{poll_s:.3f}"}, extra_time_s=poll_s)
        job = yield from exchange(call, Job.parse, max_retries)
        if job.is_terminal:
            return job
        if timeout_s is not None and time.monotonic() - began >= timeout_s:
            raise WaitTimeout(job, timeout_s)
        # A gateway that answers a long poll at once (it is shutting down, say) must not be asked in a tight loop.
        yield Sleep(0.05)


def parse_page(body: JsonObject) -> JobPage:
    jobs = [Job.parse(item) for item in body.get("data") or body.get("jobs") or []]
    return JobPage(jobs, str(body.get("next_cursor") or ""))


def api_error(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """An error body in OpenAI's envelope, or whatever else came, as an exception."""
    try:
        envelope = json.loads(body)
        error = envelope["error"] if isinstance(envelope["error"], Mapping) else {}
    except (ValueError, KeyError, TypeError):
        error = {}
    message = str(error.get("message") or f"HTTP {status} from the gateway: {body[:200].decode('utf-8', 'replace')}")
    return ApiError(
        message,
        status=status,
        code=str(error.get("code") or ""),
        kind=str(error.get("type") or ""),
        param=error.get("param"),
        retry_after_s=_seconds(headers.get("retry-after")),
        request_id=headers.get("x-request-id", ""),
    )


def authorised(call: Call, api_key: str | None) -> Call:
    return replace(call, headers={**call.headers, "authorization": f"Bearer {api_key}"}) if api_key else call


def _json_object(reply: Reply) -> JsonObject:
    try:
        body = json.loads(reply.body)
    except ValueError as exc:
        raise ApiError("the answer is not JSON; is this address an Arriero gateway?", status=reply.status) from exc
    if not isinstance(body, Mapping):
        raise ApiError("the answer is not a JSON object; is this address an Arriero gateway?", status=reply.status)
    return body


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
