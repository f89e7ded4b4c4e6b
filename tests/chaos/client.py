"""What a client sends, and what it got: one `Sent` a request, kept for the checker."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from tests.chaos.stack import CHAT_MODEL, EMBEDDING_MODEL

Form = Literal["chat", "stream", "embedding", "job", "embedding_job"]
ROUTES: dict[Form, str] = {
    "chat": "/v1/chat/completions",
    "stream": "/v1/chat/completions",
    "embedding": "/v1/embeddings",
    "job": "/v1/jobs",
    "embedding_job": "/v1/jobs",
}


@dataclass(slots=True, eq=False, kw_only=True)
class Sent:
    """One request and its fate, as its client saw it. Times are monotonic seconds."""

    form: Form
    prompt: str
    options: Mapping[str, float] = field(default_factory=dict)
    """Further fields of the body, such as a job's `delay_seconds`."""
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    status: int = 0
    """0: no answer, the connection broke."""
    retry_after: str = ""
    job_id: str = ""
    accepted: bool = False
    """202, a whole answer, or the first byte of a stream."""
    text: str = ""
    vector: list[float] = field(default_factory=list)
    complete: bool = False
    """The whole answer arrived, and said so."""
    error: str = ""
    """Code of the error that the body or the stream ended with."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def body_of(form: Form, prompt: str) -> dict[str, Any]:
    """The request's body."""
    if form in ("embedding", "embedding_job"):
        request: dict[str, Any] = {"model": EMBEDDING_MODEL, "input": prompt}
    else:
        request = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": prompt}]}
    match form:
        case "stream":
            return {**request, "stream": True}
        case "job":
            return {"type": "chat.completion", "request": request}
        case "embedding_job":
            return {"type": "embedding", "request": request}
    return request


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The fields of each server-sent event; comments are left out. Ends early and quietly if the connection breaks."""
    event: dict[str, str] = {}
    try:
        async for raw in response.content:
            line = raw.decode().rstrip("\r\n")
            if line:
                name, _, value = line.partition(": ")
                if name:
                    event[name] = value
            elif event:
                yield event
                event = {}
    except (aiohttp.ClientError, ConnectionError):
        return


async def ask(http: aiohttp.ClientSession, base_url: str, sent: Sent, headers: Mapping[str, str] | None = None) -> Sent:
    """Send it and note what comes back. A broken connection is an outcome, not an error."""
    sent.began = time.monotonic()
    try:
        body = {**body_of(sent.form, sent.prompt), **sent.options}
        async with http.post(base_url + ROUTES[sent.form], json=body, headers=headers) as response:
            sent.status = response.status
            sent.retry_after = response.headers.get("Retry-After", "")
            sent.job_id = response.headers.get("x-arriero-job-id", "")
            if sent.form == "stream" and response.status == 200:
                sent.accepted = True
                await _read_stream(response, sent)
            else:
                _read_body(await response.json(), sent)
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        pass
    sent.ended = time.monotonic()
    return sent


async def _read_stream(response: aiohttp.ClientResponse, sent: Sent) -> None:
    async for event in frames(response):
        data = event.get("data", "")
        if data == "[DONE]":
            sent.complete = not sent.error
            continue
        body = json.loads(data)
        if "error" in body:
            sent.error = body["error"]["code"]
        elif body["choices"]:
            sent.text += body["choices"][0]["delta"].get("content") or ""


def _read_body(body: dict[str, Any], sent: Sent) -> None:
    if sent.status >= 400:
        sent.error = body["error"]["code"]
        return
    sent.accepted = True
    if sent.status == 202:
        sent.job_id = body["id"]
    else:
        sent.complete = True
        sent.text, sent.vector = answer_of(body)


def answer_of(body: dict[str, Any]) -> tuple[str, list[float]]:
    """(text, vector) of a chat or embedding body; one of them is empty."""
    if "choices" in body:
        return body["choices"][0]["message"]["content"], []
    return "", body["data"][0]["embedding"]


async def job(http: aiohttp.ClientSession, base_url: str, job_id: str, wait_s: float = 0.0) -> dict[str, Any]:
    """The job as its owner sees it, after its end or `wait_s`."""
    async with http.get(f"{base_url}/v1/jobs/{job_id}", params={"wait": str(wait_s)}) as response:
        found: dict[str, Any] = await response.json()
        return found
