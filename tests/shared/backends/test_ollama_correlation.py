"""What a model server is told about where a call comes from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from shared.backends.base import CallTimeouts
from shared.backends.factory import build
from shared.backends.ollama import OllamaBackend
from shared.errors import BackendError
from shared.services.config import ServiceConfig
from shared.telemetry.logging import REQUEST_ID
from shared.wire.canonical import EmbeddingRequest
from tests.shared.backends.scripted_server import ScriptedServer, whole


@contextlib.contextmanager
def called_by(request_id: str) -> Iterator[None]:
    token = REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        REQUEST_ID.reset(token)


@pytest.mark.req("S0-26")
async def test_the_job_s_id_and_the_client_s_travel_along() -> None:
    request = EmbeddingRequest(model="m", inputs=["x"])
    async with ScriptedServer() as server:
        server.scripts["/api/embed"] = whole(b'{"model": "m", "embeddings": [[1.0]]}')
        backend = OllamaBackend(server.url)
        try:
            with called_by("client.7"):
                await backend.embed(request, request_id="job_1", timeouts=CallTimeouts())
            await backend.embed(request, request_id="job_2", timeouts=CallTimeouts())
        finally:
            await backend.aclose()
        first, second = server.requests
    assert (first.headers["x-request-id"], first.headers["x-correlation-id"]) == ("job_1", "client.7")
    assert second.headers["x-request-id"] == "job_2"
    assert "x-correlation-id" not in second.headers


@pytest.mark.req("S0-26")
@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize(
    ("dialect", "path"), [("ollama", "/api/tags"), ("openai", "/v1/models"), ("anthropic", "/v1/models?limit=1000")]
)
async def test_only_a_machine_of_ours_gets_the_client_s_id(dialect: str, path: str, is_ours: bool) -> None:
    async with ScriptedServer() as server:
        server.scripts[path] = whole(b"{}", 400)
        given = {"name": "team", "api_format": dialect, "urls": [server.url], "api_key": "k-1", "local": is_ours}
        (backend,) = build(ServiceConfig.model_validate(given))
        try:
            with called_by("client.7"), pytest.raises(BackendError):
                await backend.models()
        finally:
            await backend.aclose()
        (seen,) = server.requests
    told = any("client.7" in value for value in seen.headers.values())
    assert told is is_ours
