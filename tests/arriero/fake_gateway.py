"""A small real HTTP server with the gateway's job face, for tests of what talks to it. It cuts, refuses, repeats."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

ANSWER = ("The ", "llamas ", "walk ", "over ", "the ", "Andes.")


@dataclass(slots=True)
class FakeJob:
    """`frames` are (event, id, data); `position` is told while `gate` is not set."""

    id: str
    body: dict[str, Any]
    status: str = "queued"
    error: dict[str, str] | None = None
    frames: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def face(self) -> dict[str, Any]:
        text = "".join(d["content"] for name, _, data in self.frames if name == "chunk" for d in data["deltas"])
        model = self.body["request"].get("model", "")
        result = {"object": "chat.completion", "model": model, "choices": [{"message": {"content": text}}]}
        if self.body["type"] == "embedding":
            inputs = self.body["request"]["input"]
            inputs = [inputs] if isinstance(inputs, str) else inputs
            result = {"data": [{"index": i, "embedding": [float(len(x)), 0.5]} for i, x in enumerate(inputs)]}
        return {
            "id": self.id,
            "object": "job",
            "type": self.body["type"],
            "status": self.status,
            "priority": self.body.get("priority", "normal"),
            "model": model,
            "created_at": 1_700_000_000,
            "queue": {"position": 3, "expected_wait_seconds": 1.5} if self.status == "queued" else None,
            "attempts": [{"number": 1, "worker": "w1", "outcome": self.status}],
            "result": result if self.status == "succeeded" else None,
            "error": self.error,
            "metadata": self.body.get("metadata", {}),
        }


@dataclass(slots=True)
class FakeGateway:
    """Jobs succeed with `answer` unless told otherwise."""

    url: str = ""
    key: str = ""
    """The only API key that it takes; empty: it asks for none."""
    answer: tuple[str, ...] = ANSWER
    end_as: str = "succeeded"
    hold: bool = False
    """New jobs wait until their gate is opened."""
    cut_after: deque[int] = field(default_factory=deque)
    """For each event connection in turn: cut it after so many frames; when empty, none is cut."""
    repeat_last: bool = False
    """After a resume, send the frame the client already has once more."""
    refuse: deque[tuple[int, str, dict[str, str]]] = field(default_factory=deque)
    """(status, code, headers) for the next calls in turn."""
    cut_replies: int = 0
    """So many submissions are accepted, but their answer never arrives."""
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    seen: list[web.Request] = field(default_factory=list)
    resumed_from: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeGateway]:
        app = web.Application(middlewares=[self._front])
        app.router.add_post("/v1/jobs", self._submit)
        app.router.add_get("/v1/jobs", self._list)
        app.router.add_get("/v1/jobs/{id}", self._show)
        app.router.add_delete("/v1/jobs/{id}", self._cancel)
        app.router.add_get("/v1/jobs/{id}/events", self._events)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health/ready", self._ready)
        runner = web.AppRunner(app, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def add_restarted_job(self) -> str:
        """A job whose first run was lost after two chunks."""
        frames: list[tuple[str, str, dict[str, Any]]] = [
            ("started", "1-0", {"attempt": 1}),
            ("chunk", "1-1", {"deltas": [{"content": "lost "}]}),
            ("chunk", "1-2", {"deltas": [{"content": "words"}]}),
            ("restart", "2-0", {"attempt": 2}),
            ("chunk", "2-1", {"deltas": [{"content": "kept"}]}),
        ]
        job = FakeJob("job_restarted", {"type": "chat.completion", "request": {"model": "m"}}, frames=frames)
        job.gate.set()
        self.jobs[job.id] = job
        return job.id

    @web.middleware
    async def _front(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append(request)
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "No such key.", "code": "invalid_api_key"}}, status=401)
        if self.refuse:
            status, code, headers = self.refuse.popleft()
            error = {"message": f"refused with {code}", "type": "some_error", "code": code, "param": "model"}
            return web.json_response({"error": error}, status=status, headers=headers)
        response: web.StreamResponse = await handler(request)
        return response

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = request.headers.get("idempotency-key", "")
        if key not in self.by_key:
            job = FakeJob(f"job_{len(self.jobs) + 1}", body)
            job.frames = [("started", "1-0", {"attempt": 1})]
            job.frames += [("chunk", f"1-{n}", {"deltas": [{"content": t}]}) for n, t in enumerate(self.answer, 1)]
            if not self.hold:
                job.gate.set()
            self.jobs[job.id] = job
            self.by_key[key] = job.id
        if self.cut_replies:
            self.cut_replies -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self.jobs[self.by_key[key]].face(), status=202)

    async def _show(self, request: web.Request) -> web.Response:
        job = self._job(request)
        wait_s = float(request.query.get("wait", 0))
        if wait_s and job.status == "queued":
            try:
                await asyncio.wait_for(job.gate.wait(), wait_s)
            except TimeoutError:
                return web.json_response(job.face())
        if wait_s and job.status == "queued":
            self._end(job)
        return web.json_response(job.face())

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        job.status = "cancelled"
        job.gate.set()
        return web.json_response(job.face())

    async def _list(self, request: web.Request) -> web.Response:
        wanted = request.query.get("status")
        data = [job.face() for job in reversed(self.jobs.values()) if not wanted or job.status == wanted]
        limit = int(request.query.get("limit", 20))
        start = int(request.query.get("cursor", 0))
        more = str(start + limit) if len(data) > start + limit else ""
        return web.json_response({"object": "list", "data": data[start : start + limit], "next_cursor": more})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        after = request.headers.get("last-event-id", "")
        self.resumed_from.append(after)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while not job.gate.is_set():
            await response.write(b": queued position=3\n\n")
            try:
                await asyncio.wait_for(job.gate.wait(), 0.05)
            except TimeoutError:
                continue
        left = self.cut_after.popleft() if self.cut_after else None
        for name, event_id, data in job.frames:
            already = bool(after) and _order(event_id) <= _order(after)
            if already and not (self.repeat_last and event_id == after):
                continue
            if left is not None:
                if left == 0:
                    # Half a frame, then nothing: what a killed gateway leaves behind.
                    await response.write(f"id: {event_id}\nevent: {name}\nda".encode())
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                left -= 1
            await response.write(f"id: {event_id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode())
        if job.status == "queued":
            self._end(job)
        await response.write(f"event: ended\ndata: {json.dumps(job.face())}\n\n".encode())
        return response

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "nomic-embed-text"}, {"id": "llama3.2"}]})

    async def _ready(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ready", "services": {"redis": "healthy"}})

    def _job(self, request: web.Request) -> FakeJob:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            error = {"message": "No such job.", "type": "not_found_error", "code": "job_not_found", "param": None}
            raise web.HTTPNotFound(text=json.dumps({"error": error}), content_type="application/json")
        return job

    def _end(self, job: FakeJob) -> None:
        job.status = self.end_as
        if self.end_as != "succeeded":
            job.error = {"code": "backend_fault", "message": "The model server reported an internal error."}


def _order(event_id: str) -> tuple[int, int]:
    attempt, _, seq = event_id.partition("-")
    return int(attempt), int(seq)
