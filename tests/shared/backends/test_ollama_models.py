"""Tags, ps, show, version, pull, load, unload, copy and delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest

from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.ollama import OllamaBackend
from shared.backends.ollama_models import PullProgress
from shared.errors import BackendError, BackendProtocolError, BackendRejected, ModelNotFound
from tests.shared.backends.scripted_server import Reply, Script, ScriptedServer, stream, whole


def answer(value: object, status: int = 200) -> Script:
    return whole(msgspec.json.encode(value), status)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def backend(server: ScriptedServer) -> AsyncIterator[OllamaBackend]:
    made = OllamaBackend(server.url, keep_alive="10m")
    yield made
    await made.aclose()


DETAILS = {"family": "llama", "parameter_size": "3.2B", "quantization_level": "Q4_K_M", "families": ["llama"]}


@pytest.mark.req("S1-104")
async def test_installed_models_of_new_and_old_servers_without_cloud_stubs(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    new = {
        "name": "llama3.2:latest",
        "model": "llama3.2:latest",
        "size": 2019393189,
        "digest": "a80c",
        "modified_at": "2026-08-21T10:00:00.5+02:00",
        "details": DETAILS,
        "capabilities": ["completion", "tools"],
    }
    old = {
        "name": "nomic-embed-text:latest",
        "size": 5,
        "digest": "b",
        "modified_at": "x",
        "details": {"families": None},
    }
    stub = {"name": "mine:latest", "remote_host": "https://ollama.com:443", "remote_model": "big"}
    server.scripts["/api/tags"] = answer({"models": [new, old, stub, {"name": "glm:cloud"}]})
    assert await backend.models() == [
        ModelInfo(
            name="llama3.2:latest",
            size_bytes=2019393189,
            digest="a80c",
            modified_at="2026-08-21T10:00:00.5+02:00",
            family="llama",
            parameter_size="3.2B",
            quantization="Q4_K_M",
            capabilities=("completion", "tools"),
        ),
        ModelInfo(name="nomic-embed-text:latest", size_bytes=5, digest="b", modified_at="x"),
    ]
    allowed = OllamaBackend(server.url, allow_cloud=True)
    assert [model.name for model in await allowed.models()][2:] == ["mine:latest", "glm:cloud"]
    await allowed.aclose()


@pytest.mark.parametrize("models", [[], None])
async def test_no_models(server: ScriptedServer, backend: OllamaBackend, models: object) -> None:
    server.scripts["/api/tags"] = server.scripts["/api/ps"] = answer({"models": models})
    assert await backend.models() == []
    assert await backend.loaded() == []


async def test_loaded_models(server: ScriptedServer, backend: OllamaBackend) -> None:
    item = {
        "name": "m:latest",
        "size": 10,
        "size_vram": 7,
        "expires_at": "2318-01-01T00:00:00Z",
        "context_length": 4096,
    }
    server.scripts["/api/ps"] = answer({"models": [item]})
    assert await backend.loaded() == [
        LoadedModel(
            name="m:latest", size_bytes=10, vram_bytes=7, expires_at="2318-01-01T00:00:00Z", context_length=4096
        )
    ]


async def test_show(server: ScriptedServer, backend: OllamaBackend) -> None:
    info = {"general.architecture": "llama", "llama.context_length": 131072, "llama.embedding_length": 3072}
    server.scripts["/api/show"] = answer(
        {
            "details": DETAILS,
            "model_info": info,
            "capabilities": ["completion"],
            "template": "{{ .Prompt }}",
            "parameters": "stop x",
            "license": "MIT",
        }
    )
    details = await backend.show("llama3.2")
    assert (details.context_length, details.embedding_length, details.capabilities) == (131072, 3072, ("completion",))
    assert (details.family, details.quantization, details.template) == ("llama", "Q4_K_M", "{{ .Prompt }}")
    assert (details.parameters, details.license, details.info) == ("stop x", "MIT", info)
    assert server.requests[0].json == {"model": "llama3.2"}


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"", b'{"models":[{}]}', b'{"models":5}', b'{"version":null}', b"{}"]
)
async def test_answers_that_are_not_understood(server: ScriptedServer, backend: OllamaBackend, body: bytes) -> None:
    for path, ask in (("tags", backend.models), ("ps", backend.loaded), ("version", backend.version)):
        server.scripts[f"/api/{path}"] = whole(body)
        with pytest.raises(BackendProtocolError):
            await ask()


async def test_a_missing_model_cannot_be_shown_copied_or_deleted(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    for path in ("show", "copy", "delete"):
        server.scripts[f"/api/{path}"] = answer({"error": "model 'x' not found"}, 404)
    with pytest.raises(ModelNotFound):
        await backend.show("x")
    with pytest.raises(ModelNotFound):
        await backend.copy("x", "y")
    with pytest.raises(ModelNotFound):
        await backend.delete("x")


async def test_copy_and_delete_answer_with_an_empty_body(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/copy"] = server.scripts["/api/delete"] = whole(b"")
    await backend.copy("x", "y")
    await backend.delete("y")
    assert [(seen.method, seen.path, seen.json) for seen in server.requests] == [
        ("POST", "/api/copy", {"source": "x", "destination": "y"}),
        ("DELETE", "/api/delete", {"model": "y"}),
    ]


@pytest.mark.req("S1-39")
async def test_load_and_unload(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/generate"] = answer({"model": "m", "response": "", "done": True, "done_reason": "load"})
    await backend.load("m", request_id="job_1")
    await backend.load("m", keep_alive="-1")
    await backend.unload("m")
    assert [seen.json for seen in server.requests] == [
        {"model": "m", "prompt": "", "stream": False, "keep_alive": "10m"},
        {"model": "m", "prompt": "", "stream": False, "keep_alive": -1.0},
        {"model": "m", "prompt": "", "stream": False, "keep_alive": 0},
    ]
    assert server.requests[0].headers["x-request-id"] == "job_1"


async def test_an_embedding_model_is_loaded_by_an_empty_embedding(
    server: ScriptedServer, backend: OllamaBackend
) -> None:
    server.scripts["/api/generate"] = answer({"error": '"e" does not support generate'}, 400)
    server.scripts["/api/embed"] = answer({"model": "e", "embeddings": []})
    await backend.load("e")
    assert server.requests[1].json == {"model": "e", "input": [], "stream": False, "keep_alive": "10m"}
    server.scripts["/api/embed"] = answer({"error": "something else"}, 400)
    with pytest.raises(BackendRejected, match="does not support generate"):
        await backend.load("e")


async def test_a_load_that_is_not_confirmed_is_no_load(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/generate"] = answer({"model": "m", "done": False})
    with pytest.raises(BackendProtocolError):
        await backend.load("m")


LAYER = {"status": "pulling a80c", "digest": "sha256:a80c", "total": 100}
SUCCESS = {"status": "success"}


async def test_a_pull_tells_its_progress(server: ScriptedServer, backend: OllamaBackend) -> None:
    server.scripts["/api/pull"] = stream(
        {"status": "pulling manifest"}, LAYER, LAYER | {"completed": 60}, {"status": "writing manifest"}, SUCCESS
    )
    steps = [step async for step in backend.pull("llama3.2", request_id="job_2")]
    assert steps == [
        PullProgress(status="pulling manifest"),
        PullProgress(status="pulling a80c", digest="sha256:a80c", total_bytes=100),
        PullProgress(status="pulling a80c", digest="sha256:a80c", total_bytes=100, completed_bytes=60),
        PullProgress(status="writing manifest"),
        PullProgress(status="success"),
    ]
    assert [step.is_done for step in steps] == [False] * 4 + [True]
    assert server.requests[0].json == {"model": "llama3.2", "stream": True}
    assert server.requests[0].headers["x-request-id"] == "job_2"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (stream({"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}), ModelNotFound),
        (stream({"error": "dial tcp: lookup registry.ollama.ai: no such host"}), BackendError),
        (stream({"status": "pulling manifest"}, LAYER), BackendProtocolError),
        (stream({"status": "pulling manifest"}, LAYER, end="cut"), BackendProtocolError),
        (stream(b"<html>\n"), BackendProtocolError),
        (answer({"error": "invalid model name"}, 400), BackendRejected),
    ],
)
async def test_a_pull_without_success_is_a_failure(
    server: ScriptedServer, backend: OllamaBackend, script: Script, kind: type[Exception]
) -> None:
    server.scripts["/api/pull"] = script
    with pytest.raises(kind) as caught:
        async for step in backend.pull("x"):
            assert not step.is_done
    assert type(caught.value) is kind


async def _slow_pull(reply: Reply) -> None:
    await reply.head()
    await reply.line(LAYER)
    await reply.gone.wait()


async def test_closing_a_pull_stops_the_download(
    server: ScriptedServer, backend: OllamaBackend, wait_until: object
) -> None:
    server.scripts["/api/pull"] = _slow_pull
    async with aclosing(backend.pull("x")) as steps:
        await anext(steps)
    assert callable(wait_until)
    await wait_until(server.closed.is_set, 1, description="the connection is closed")
