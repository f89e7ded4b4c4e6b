"""Where `arriero bench` asks: the gateway, or a model server itself. Both speak Ollama's API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import httpx

from arriero import calls
from arriero.benchmark import AnswerTimer, BrokenAnswer, Sample
from arriero.cli.daemons import Daemon
from arriero.cli.failures import EXIT_UNAVAILABLE, CommandFailed
from arriero.cli.following import failure, follow
from arriero.errors import ApiError, GatewayUnreachable

CONNECT_S = 5.0
ANSWER_S = 600.0
"""Longest silence: a large model may take minutes to load."""
UNLOAD_S = 30.0
IN_USE_S = 10.0
POLL_S = 0.1


class Target(Protocol):
    def ask(self, model: str, prompt: str, tokens: int) -> Sample:
        """One timed answer of at most so many tokens. Raises CommandFailed, ApiError and GatewayUnreachable."""

    def unload(self, model: str) -> None:
        """Take the model out of memory. Raises as `ask` does."""

    def close(self) -> None: ...


class GatewayTarget:
    """Through the queue: a worker chooses the host, and the job's record names it."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._http = _http(url, {"Authorization": f"Bearer {api_key}"} if api_key else {})

    def ask(self, model: str, prompt: str, tokens: int) -> Sample:
        try:
            sample, headers = _answer(self._http, model, prompt, tokens)
            job = self._http.get(calls.job_path(headers["x-arriero-job-id"]))
        except httpx.TransportError as exc:
            raise GatewayUnreachable(self._url, str(exc) or type(exc).__name__) from exc
        if job.status_code >= 400:
            raise calls.api_error(job.status_code, job.headers, job.content)
        record = job.json()
        attempts = record["attempts"]
        queue_s = attempts[0]["started_at"] - record["created_at"]
        return replace(sample, host=attempts[-1]["backend"] or "unknown", queue_s=queue_s)

    def unload(self, model: str) -> None:
        give_up_at = time.monotonic() + IN_USE_S
        with Daemon("manager") as manager:
            while True:
                try:
                    ordered = manager.post("/models/unload", {"model": _bare(model)})
                    break
                except ApiError as exc:
                    # A call that has just ended, ours perhaps, still counts: workers tell of it every few seconds.
                    if exc.code != "model_in_use" or time.monotonic() > give_up_at:
                        raise
                    time.sleep(POLL_S)
            (operation,) = follow(manager, [ordered])
        if why := failure(operation):
            raise CommandFailed(f"{model} stays in memory: {why}")

    def close(self) -> None:
        self._http.close()


class HostTarget:
    """One Ollama server, past the queue."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._host = self._url.partition("://")[2]
        self._http = _http(self._url, {})

    def ask(self, model: str, prompt: str, tokens: int) -> Sample:
        try:
            sample, _ = _answer(self._http, model, prompt, tokens)
        except httpx.TransportError as exc:
            raise self._silent(exc) from exc
        return replace(sample, host=self._host)

    def unload(self, model: str) -> None:
        try:
            asked = self._http.post("/api/generate", json={"model": model, "keep_alive": 0, "stream": False})
            if asked.status_code >= 400:
                raise _refused(asked)
            give_up_at = time.monotonic() + UNLOAD_S
            while self._is_loaded(model):
                if time.monotonic() > give_up_at:
                    raise CommandFailed(
                        f"{model} is still in memory of {self._host} after {UNLOAD_S:g} s: it is in use"
                    )
                time.sleep(POLL_S)
        except httpx.TransportError as exc:
            raise self._silent(exc) from exc

    def close(self) -> None:
        self._http.close()

    def _is_loaded(self, model: str) -> bool:
        tagged = model if ":" in model else f"{model}:latest"
        return any(loaded["name"] == tagged for loaded in self._http.get("/api/ps").json()["models"])

    def _silent(self, exc: httpx.TransportError) -> CommandFailed:
        reason = str(exc) or type(exc).__name__
        return CommandFailed(f"no model server answers at {self._url} ({reason}): `ollama serve`", EXIT_UNAVAILABLE)


def _http(url: str, headers: Mapping[str, str]) -> httpx.Client:
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    return httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)


def _answer(http: httpx.Client, model: str, prompt: str, tokens: int) -> tuple[Sample, httpx.Headers]:
    """The timed stream, without its host, and the headers. Raises ApiError and CommandFailed."""
    timer = AnswerTimer()
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "options": {"num_predict": tokens, "temperature": 0},
    }
    began = time.perf_counter()
    try:
        with http.stream("POST", "/api/chat", json=body) as response:
            if response.status_code >= 400:
                response.read()
                raise _refused(response)
            for line in response.iter_lines():
                if line.strip():
                    timer.line(line, time.perf_counter() - began)
        sample = timer.sample(time.perf_counter() - began)
    except BrokenAnswer as exc:
        raise CommandFailed(f"{model}: {exc}") from exc
    if _bare(timer.model) != _bare(model):
        raise CommandFailed(f"{model}: {timer.model} answered in its place, so there are no figures of it")
    return sample, response.headers


def _bare(model: str) -> str:
    """Without the name of its service."""
    return model.rpartition("~")[2]


def _refused(response: httpx.Response) -> ApiError:
    """Ollama's form of an error: `{"error": "<text>"}`."""
    try:
        message = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code}: {response.text[:200]}"
    return ApiError(message, status=response.status_code)
