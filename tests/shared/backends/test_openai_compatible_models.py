"""What the OpenAI-compatible backend asks its servers: models, memory, whether they are there; and each preset once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.backends.base import LoadedModel, ModelInfo
from shared.backends.openai_quirks import QUIRKS
from shared.errors import (
    BackendMisconfigured,
)
from shared.services.presets import PRESETS
from shared.wire.canonical import (
    Delta,
)
from tests.house.requirements import ROOT
from tests.shared.backends.openai_server import (
    CHAT,
    KEY,
    MARK,
    STOPPED,
    Make,
    backends,
    chat,
    chunk,
    events,
    listing,
)
from tests.shared.backends.scripted_server import ScriptedServer, whole


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def make(server: ScriptedServer) -> AsyncIterator[Make]:
    async with backends(server.url) as made:
        yield made


OPENROUTER = {
    "id": "vendor/model",
    "created": 1_700_000_000,
    "architecture": {"input_modalities": ["text", "image"]},
    "supported_parameters": ["tools", "reasoning", "seed"],
}
LLAMA_CPP = {
    "id": "tiny",
    "created": 1,
    "owned_by": "llamacpp",
    "meta": {"n_ctx": 512, "n_params": 3_200_000_000, "size": 1000},
}
STUDIO = {
    "id": "qwen2-vl-7b",
    "type": "vlm",
    "arch": "qwen2_vl",
    "quantization": "4bit",
    "state": "loaded",
    "max_context_length": 32768,
    "capabilities": ["tool_use"],
}


@pytest.mark.req("S2-06", "S4-72")
async def test_models_are_discovered(server: ScriptedServer, make: Make) -> None:
    server.scripts["/v1/models"] = listing(
        OPENROUTER, LLAMA_CPP, {"id": "bare", "architecture": "x86", "created": "now"}
    )
    assert await make("openrouter", api_key=KEY, models=["extra", "bare"]).models() == [
        ModelInfo(
            name="vendor/model", modified_at="2023-11-14T22:13:20Z", capabilities=("tools", "thinking", "vision")
        ),
        ModelInfo(name="tiny", modified_at="1970-01-01T00:00:01Z", size_bytes=1000, parameter_size="3.2B"),
        ModelInfo(name="bare"),
        ModelInfo(name="extra"),
    ]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.req("S4-62")
async def test_without_discovery_the_configuration_says_which(server: ScriptedServer, make: Make) -> None:
    assert await make(enable_discovery=False, models=["a"]).models() == [ModelInfo(name="a")]
    assert server.requests == []


@pytest.mark.req("S4-03")
async def test_lm_studio_tells_more_in_its_own_list(server: ScriptedServer, make: Make) -> None:
    server.scripts["/api/v0/models"] = listing(STUDIO, {"id": "b", "type": "embeddings", "state": "not-loaded"})
    backend = make("lm_studio")
    assert await backend.models() == [
        ModelInfo(
            name="qwen2-vl-7b",
            family="qwen2_vl",
            quantization="4bit",
            capabilities=("completion", "vision", "tools"),
        ),
        ModelInfo(name="b", capabilities=("embedding",)),
    ]
    assert await backend.loaded() == [LoadedModel(name="qwen2-vl-7b", context_length=32768)]


async def test_an_older_lm_studio_has_the_dialects_list_only(server: ScriptedServer, make: Make) -> None:
    server.scripts["/api/v0/models"] = whole(b'{"error":"Not found"}', 404)
    server.scripts["/v1/models"] = listing({"id": "a"})
    backend = make("lm_studio")
    assert await backend.models() == [ModelInfo(name="a")]
    assert await backend.loaded() == []


async def test_llama_cpp_tells_what_is_in_memory_and_others_do_not(server: ScriptedServer, make: Make) -> None:
    idle = {"id": "idle", "status": {"value": "unloaded"}}
    server.scripts["/v1/models"] = listing(LLAMA_CPP, idle)
    assert await make("llamacpp").loaded() == [LoadedModel(name="tiny", size_bytes=1000, context_length=512)]
    assert await make("vllm").loaded() == []


async def test_the_probe_shows_whether_the_key_is_taken(server: ScriptedServer, make: Make) -> None:
    server.scripts["/v1/models"] = whole(b'{"data":[]}', extra="Server: llama.cpp\r\n")
    assert await make().version() == "llama.cpp"
    server.scripts["/v1/models"] = whole(b'{"error":{"message":"no"}}', 401)
    with pytest.raises(BackendMisconfigured, match="API key"):
        await make(api_key=KEY).version()


def test_every_preset_of_the_dialect_has_its_quirks_listed() -> None:
    assert QUIRKS.keys() == set(PRESETS_OF_THE_DIALECT)
    page = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in QUIRKS)


PRESETS_OF_THE_DIALECT = [name for name, preset in PRESETS.items() if preset.api_format == "openai"]


@pytest.mark.req("S4-03", "S4-04", "S4-05", "S4-06", "S4-07", "S4-08", "S4-13")
@pytest.mark.parametrize("preset", PRESETS_OF_THE_DIALECT)
async def test_every_preset_chats_and_lists(server: ScriptedServer, make: Make, preset: str) -> None:
    server.scripts[CHAT] = events(chunk("x", "stop"), MARK)
    server.scripts["/v1/models"] = server.scripts["/api/v0/models"] = listing({"id": "m", "type": "llm"})
    backend = make(preset, api_key="sk-0123456789abcdef0123")
    assert await chat(backend) == [Delta("x"), STOPPED]
    assert [info.name for info in await backend.models()] == ["m"]
    assert await backend.version() == ""
