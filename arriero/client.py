"""`Client` (blocking) and `AsyncClient`: the job face of the gateway.

Both drive the same flows (`arriero.calls`) and the same event feed (`arriero.sse`); only the waiting differs.
"""

from __future__ import annotations

import asyncio
import builtins
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from arriero import calls
from arriero.calls import Call, Flow, Reply, Sleep, Unanswered
from arriero.errors import ApiError, GatewayUnreachable, JobFailed
from arriero.models import Chunk, Ended, Event, Job, JobPage, JsonObject, Restart
from arriero.sse import EventFeed

DEFAULT_URL = "http://127.0.0.1:8000"
SILENCE_S = 60.0
"""An event stream that says nothing for so long, not even a comment, is taken for dead and opened anew."""

JOB_OPTIONS = frozenset({"priority", "delay_seconds", "deadline_seconds", "metadata", "idempotency_key"})

T = TypeVar("T")


def _split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What belongs into the OpenAI body (temperature, tools, ...) and what is the job's own."""
    body = {name: value for name, value in options.items() if name not in JOB_OPTIONS}
    return body, {name: value for name, value in options.items() if name in JOB_OPTIONS}


def _succeeded(job: Job) -> Job:
    if not job.succeeded:
        raise JobFailed(job)
    return job


class _Calls:
    """What both clients know: where the gateway is, and which flow each method runs."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        timeout: float = 30.0,
        *,
        max_retries: int = 2,
        reconnect_for: float = 60.0,
    ) -> None:
        """`timeout`: seconds without an answer. `reconnect_for`: seconds a broken event stream is tried again."""
        self.base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._timeout_s = timeout
        self._max_retries = max_retries
        self._reconnect_for_s = reconnect_for

    def _enqueue(
        self, type: str, request: JsonObject, idempotency_key: str | None, options: Mapping[str, Any]
    ) -> Flow[Job]:
        # With a key of its own an enqueue may be sent again after a broken connection, and still makes one job.
        key = idempotency_key or uuid.uuid4().hex
        return calls.exchange(calls.enqueue_call(type, request, key, options), Job.parse, self._max_retries)

    def _enqueue_many(
        self, type: str, requests: Sequence[JsonObject], idempotency_key: str | None, options: Mapping[str, Any]
    ) -> Flow[list[Job]]:
        return calls.enqueue_many(type, requests, idempotency_key or uuid.uuid4().hex, options, self._max_retries)

    def _get(self, job_id: str) -> Flow[Job]:
        return calls.exchange(Call("GET", calls.job_path(job_id)), Job.parse, self._max_retries)

    def _cancel(self, job_id: str) -> Flow[Job]:
        return calls.exchange(Call("DELETE", calls.job_path(job_id)), Job.parse, self._max_retries)

    def _list(self, status: str | None, model: str | None, cursor: str, limit: int) -> Flow[JobPage]:
        return calls.exchange(calls.list_call(status, model, cursor, limit), calls.parse_page, self._max_retries)

    def _raw(self, method: str, path: str, body: JsonObject | None) -> Flow[JsonObject]:
        return calls.exchange(Call(method, path, body), lambda answer: answer, self._max_retries)

    def _request_kwargs(self, call: Call) -> dict[str, Any]:
        return {
            "method": call.method,
            "url": self.base_url + call.path,
            "json": call.body,
            "params": dict(call.params) or None,
            "headers": dict(calls.authorised(call, self._api_key).headers),
            "timeout": httpx.Timeout(self._timeout_s + call.extra_time_s, connect=min(5.0, self._timeout_s)),
        }

    def _stream_kwargs(self, job_id: str, feed: EventFeed) -> dict[str, Any]:
        call = Call("GET", calls.job_path(job_id, "/events"), headers=feed.connected())
        timeout = httpx.Timeout(self._timeout_s, read=SILENCE_S, connect=min(5.0, self._timeout_s))
        return {**self._request_kwargs(call), "timeout": timeout}

    def _unanswered(self, exc: httpx.TransportError) -> Unanswered:
        sent = not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        return Unanswered(self.base_url, str(exc) or type(exc).__name__, sent)

    def _pause_s(self, feed: EventFeed, failed_since: float | None, failure: Exception | None) -> float:
        """How long to wait before the stream is opened again; raises `failure` when that has no use."""
        if isinstance(failure, ApiError) and failure.status not in calls.BUSY_STATUSES:
            raise failure
        if failed_since is not None and time.monotonic() - failed_since > self._reconnect_for_s:
            raise failure or GatewayUnreachable(self.base_url, "the event stream keeps ending before the job does")
        return feed.lost(failure.retry_after_s if isinstance(failure, ApiError) else None)


class Client(_Calls):
    """Blocking client. Safe to share between threads; close it, or use it in a `with` block.

    Every method raises `ApiError` and `GatewayUnreachable`.
    """

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, timeout: float = 30.0, **tuning: Any
    ) -> None:
        super().__init__(base_url, api_key, timeout, **tuning)
        self._http = httpx.Client()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def enqueue(self, type: str, request: JsonObject, *, idempotency_key: str | None = None, **options: Any) -> Job:
        """Submit a job. `type`: chat.completion, completion or embedding; `request`: the OpenAI body.

        Options: `priority` (high, normal, low), `delay_seconds`, `deadline_seconds`, `metadata`.
        """
        return self._drive(self._enqueue(type, request, idempotency_key, options))

    def enqueue_many(
        self, type: str, requests: Sequence[JsonObject], *, idempotency_key: str | None = None, **options: Any
    ) -> builtins.list[Job]:
        """Submit many jobs of one type in few calls; the options are those of `enqueue`. The jobs, in order.

        What the queue had no room for has the status `refused` and its `error`. Raises ApiError when it took none.
        """
        return self._drive(self._enqueue_many(type, requests, idempotency_key, options))

    def get(self, job_id: str) -> Job:
        return self._drive(self._get(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, well or not. Raises WaitTimeout after `timeout` seconds."""
        return self._drive(calls.wait(job_id, timeout, self._max_retries))

    def cancel(self, job_id: str) -> Job:
        return self._drive(self._cancel(job_id))

    def list(
        self, *, status: str | None = None, model: str | None = None, cursor: str = "", limit: int = 20
    ) -> JobPage:
        return self._drive(self._list(status, model, cursor, limit))

    def request(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        """Any other JSON call of the gateway that may be repeated, e.g. `request("GET", "/v1/models")`."""
        return self._drive(self._raw(method, path, body))

    def stream(self, job_id: str, last_event_id: str = "") -> Iterator[Event]:
        """The job's events until `Ended`. A broken connection is opened again where it broke; nothing comes twice."""
        feed = EventFeed(last_event_id)
        failed_since: float | None = None
        while not feed.ended:
            failure: ApiError | GatewayUnreachable | None = None
            try:
                with self._http.stream(**self._stream_kwargs(job_id, feed)) as response:
                    if response.status_code >= 400:
                        failure = calls.api_error(response.status_code, response.headers, response.read())
                    else:
                        for received in response.iter_bytes():
                            failed_since = None
                            yield from feed.feed(received)
            except httpx.TransportError as exc:
                failure = GatewayUnreachable(self.base_url, str(exc) or type(exc).__name__)
            if not feed.ended:
                pause_s = self._pause_s(feed, failed_since, failure)
                failed_since = failed_since or time.monotonic()
                time.sleep(pause_s)

    def chat(self, prompt: str | Sequence[JsonObject], model: str, *, system: str = "", **options: Any) -> Job:
        """Ask and wait; the answer is `job.text`. Raises JobFailed when there is none."""
        return _succeeded(self.wait(self._submit_chat(prompt, model, system, options).id))

    def chat_stream(
        self, prompt: str | Sequence[JsonObject], model: str, *, system: str = "", **options: Any
    ) -> Iterator[Chunk | Restart]:
        """The answer's pieces as they come; after a `Restart` begin anew. Raises JobFailed when there is no answer."""
        job = self._submit_chat(prompt, model, system, options)
        for event in self.stream(job.id):
            if isinstance(event, Ended):
                _succeeded(event.job)
            elif isinstance(event, Chunk | Restart):
                yield event

    def embed(self, inputs: str | Sequence[str], model: str, **options: Any) -> Job:
        """Vectors for `inputs`; they are `job.vectors`, in order. Raises JobFailed when there are none."""
        job = self.enqueue("embedding", {"model": model, "input": inputs}, **options)
        return _succeeded(self.wait(job.id))

    def _submit_chat(
        self, prompt: str | Sequence[JsonObject], model: str, system: str, options: Mapping[str, Any]
    ) -> Job:
        body, job_options = _split_options(options)
        return self.enqueue("chat.completion", calls.chat_request(prompt, model, system, body), **job_options)

    def _drive(self, flow: Flow[T]) -> T:
        outcome: Reply | Unanswered | None = None
        while True:
            try:
                effect = flow.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # StopIteration is not generic; the flow's type says T
            outcome = None
            if isinstance(effect, Sleep):
                time.sleep(effect.seconds)
                continue
            try:
                response = self._http.request(**self._request_kwargs(effect))
                outcome = Reply(response.status_code, response.headers, response.content)
            except httpx.TransportError as exc:
                outcome = self._unanswered(exc)


class AsyncClient(_Calls):
    """`Client` for asyncio; same methods, same errors."""

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, timeout: float = 30.0, **tuning: Any
    ) -> None:
        super().__init__(base_url, api_key, timeout, **tuning)
        self._http = httpx.AsyncClient()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def enqueue(
        self, type: str, request: JsonObject, *, idempotency_key: str | None = None, **options: Any
    ) -> Job:
        return await self._drive(self._enqueue(type, request, idempotency_key, options))

    async def enqueue_many(
        self, type: str, requests: Sequence[JsonObject], *, idempotency_key: str | None = None, **options: Any
    ) -> builtins.list[Job]:
        return await self._drive(self._enqueue_many(type, requests, idempotency_key, options))

    async def get(self, job_id: str) -> Job:
        return await self._drive(self._get(job_id))

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        return await self._drive(calls.wait(job_id, timeout, self._max_retries))

    async def cancel(self, job_id: str) -> Job:
        return await self._drive(self._cancel(job_id))

    async def list(
        self, *, status: str | None = None, model: str | None = None, cursor: str = "", limit: int = 20
    ) -> JobPage:
        return await self._drive(self._list(status, model, cursor, limit))

    async def request(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        return await self._drive(self._raw(method, path, body))

    async def stream(self, job_id: str, last_event_id: str = "") -> AsyncIterator[Event]:
        feed = EventFeed(last_event_id)
        failed_since: float | None = None
        while not feed.ended:
            failure: ApiError | GatewayUnreachable | None = None
            try:
                async with self._http.stream(**self._stream_kwargs(job_id, feed)) as response:
                    if response.status_code >= 400:
                        failure = calls.api_error(response.status_code, response.headers, await response.aread())
                    else:
                        async for received in response.aiter_bytes():
                            failed_since = None
                            for event in feed.feed(received):
                                yield event
            except httpx.TransportError as exc:
                failure = GatewayUnreachable(self.base_url, str(exc) or type(exc).__name__)
            if not feed.ended:
                pause_s = self._pause_s(feed, failed_since, failure)
                failed_since = failed_since or time.monotonic()
                await asyncio.sleep(pause_s)

    async def chat(self, prompt: str | Sequence[JsonObject], model: str, *, system: str = "", **options: Any) -> Job:
        job = await self._submit_chat(prompt, model, system, options)
        return _succeeded(await self.wait(job.id))

    async def chat_stream(
        self, prompt: str | Sequence[JsonObject], model: str, *, system: str = "", **options: Any
    ) -> AsyncIterator[Chunk | Restart]:
        job = await self._submit_chat(prompt, model, system, options)
        async for event in self.stream(job.id):
            if isinstance(event, Ended):
                _succeeded(event.job)
            elif isinstance(event, Chunk | Restart):
                yield event

    async def embed(self, inputs: str | Sequence[str], model: str, **options: Any) -> Job:
        job = await self.enqueue("embedding", {"model": model, "input": inputs}, **options)
        return _succeeded(await self.wait(job.id))

    async def _submit_chat(
        self, prompt: str | Sequence[JsonObject], model: str, system: str, options: Mapping[str, Any]
    ) -> Job:
        body, job_options = _split_options(options)
        return await self.enqueue("chat.completion", calls.chat_request(prompt, model, system, body), **job_options)

    async def _drive(self, flow: Flow[T]) -> T:
        outcome: Reply | Unanswered | None = None
        while True:
            try:
                effect = flow.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # StopIteration is not generic; the flow's type says T
            outcome = None
            if isinstance(effect, Sleep):
                await asyncio.sleep(effect.seconds)
                continue
            try:
                response = await self._http.request(**self._request_kwargs(effect))
                outcome = Reply(response.status_code, response.headers, response.content)
            except httpx.TransportError as exc:
                outcome = self._unanswered(exc)
