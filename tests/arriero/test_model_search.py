"""`arriero models search`, `show` and `import`, through a real manager, before scripted registries."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from arriero.cli.failures import EXIT_DEGRADED, EXIT_UNAVAILABLE, EXIT_USAGE
from tests.integration.processes import clean_environment
from tests.manager.programs import ManagerProgram, simulator
from tests.manager.registry_server import RegistryServer, registry_server
from tests.manager.weights import gguf


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


Arriero = Callable[..., Awaitable[Done]]


@pytest.fixture
async def outside() -> AsyncIterator[RegistryServer]:
    async with registry_server() as server:
        yield server


@pytest.fixture
async def arriero(redis_url: str, tmp_path: Path, outside: RegistryServer) -> AsyncIterator[Arriero]:
    """`await arriero("models", "list")`, with a manager that may import `tiny.gguf`."""
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    settings = {"OLLAMA_LIBRARY_URL": outside.url, "HUGGINGFACE_URL": outside.url, "MODEL_IMPORT_DIR": str(tmp_path)}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulator(models=("llama3.2",)))
        manager = ManagerProgram(tmp_path / "m", redis_url, server.url, **settings)
        await stack.enter_async_context(manager)

        async def run(*words: str) -> Done:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "arriero", *words),
                env=clean_environment({"ARRIERO_MANAGER_URL": manager.url}),
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await asyncio.wait_for(child.communicate(), 30)
            return Done(child.returncode or 0, out.decode(), err.decode())

        yield run


@pytest.mark.req("S4-68", "S4-70", "S4-27")
async def test_found_shown_and_imported(arriero: Arriero, outside: RegistryServer) -> None:
    unknown, found = await asyncio.gather(arriero("models", "show", "nobody/has"), arriero("models", "search", "llama"))
    assert unknown.status == 1 and "models search" in unknown.err
    assert found.status == 0, found.err
    lines = [line.split() for line in found.out.splitlines()]
    assert lines[0][:3] == ["model", "registry", "kind"]
    assert [line[0] for line in lines[1:]] == [
        *("llama3.2", "mario/llama-tuned", "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF", "hf.co/someone/quiet-7b-GGUF"),
    ]
    assert "11.3M" in lines[1] and "250K" in lines[3]
    again, shown, installed, imported, refused = await asyncio.gather(
        arriero("models", "search", "llama", "--registry", "ollama", "--json"),
        arriero("models", "show", "mario/llama-tuned"),
        arriero("models", "show", "llama3.2"),
        arriero("models", "import", "mine", "tiny.gguf"),
        arriero("models", "import", "other", "../tiny.gguf"),
    )
    as_json = json.loads(again.out)
    assert {model["registry"] for model in as_json["models"]} == {"ollama"} and as_json["errors"] == []
    assert len(outside.asked) == 2, "the second search took what the first had found"
    # What was found is known from then on, though it is not installed.
    assert shown.status == 0 and "arriero models pull mario/llama-tuned" in shown.out
    assert f"{outside.url}/mario/llama-tuned" in shown.out
    assert "131072 tokens" in installed.out and "Q4_K_M" in installed.out
    assert (imported.status, imported.out.strip()) == (0, "import mine on all hosts: done"), imported.err
    assert refused.status == EXIT_USAGE and "MODEL_IMPORT_DIR" in refused.err

    # A registry that is away is said to be.
    outside.models = "nonsense"
    partly = await arriero("models", "search", "another")
    assert partly.status == EXIT_DEGRADED and "mario/llama-tuned" in partly.out
    assert "huggingface is not in this list" in partly.out
    outside.status = 503
    nothing = await arriero("models", "search", "third")
    assert nothing.status == EXIT_UNAVAILABLE and "503" in nothing.err
