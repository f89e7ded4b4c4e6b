"""What a model server is told about where a call comes from."""

from __future__ import annotations

import pytest
from structlog.contextvars import bound_contextvars

from shared.backends.base import CallTimeouts
from shared.backends.ollama import OllamaBackend
from shared.wire.canonical import EmbeddingRequest
from tests.shared.backends.scripted_server import ScriptedServer, whole


@pytest.mark.req("S0-26")
async def test_the_job_s_id_and_the_client_s_travel_along() -> None:
    request = EmbeddingRequest(model="m", inputs=["x"])
    async with ScriptedServer() as server:
        server.scripts["/api/embed"] = whole(b'{"model": "m", "embeddings": [[1.0]]}')
        backend = OllamaBackend(server.url)
        try:
            with bound_contextvars(request_id="client.7"):
                await backend.embed(request, request_id="job_1", timeouts=CallTimeouts())
            await backend.embed(request, request_id="job_2", timeouts=CallTimeouts())
        finally:
            await backend.aclose()
        first, second = server.requests
    assert (first.headers["x-request-id"], first.headers["x-correlation-id"]) == ("job_1", "client.7")
    assert second.headers["x-request-id"] == "job_2"
    assert "x-correlation-id" not in second.headers
