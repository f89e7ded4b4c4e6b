"""The API description against the running gateway: no 5xx, nothing but what is described, all of it accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.simulator.app import listening
from infra.simulator.settings import SimulatorSettings
from tests.gateway.conftest import Served, StartGateway

FAST = SimulatorSettings(port=0, load_seconds=0, tokens_per_second=0, first_token_seconds=0)
# JSON schema cannot say that `tool_choice` must name one of `tools`, nor that no integer of a body, in whatever field,
# may need more than 64 bits, nor that a model goes by one of two names, nor what a service or host is called here;
# everything else must be accepted as described.
CROSS_FIELD = {
    "openai": "^/v1/(chat/completions|completions|embeddings)$",
    "jobs": "^/v1/(jobs(:batch)?|route)$",
    "anthropic": "^/v1/messages$",
    "batches": "^/v1/(files|batches)(/.*)?$",
    "ollama": "^/api/(chat|generate|embed|embeddings|show)$",
    "direct": "^/(generate|chat|chat/stream)$",
    # Not GET /jobs/{id}: with an id of POST it would wait for the end of a job that nobody carries out here.
    "models": "^/jobs$|^/jobs/.+/retry$|^/v1/providers(/.*)?$",
}
LIMIT_S = 55


@pytest.fixture
async def road(redis_url: str, start_gateway: StartGateway) -> AsyncIterator[Served]:
    """A gateway, a real worker process and the simulator."""
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(listening(FAST))
        env = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": redis_url,
            "OLLAMA_BASE_URL": simulator.url,
            "WORKER_PORT": "0",
            "LOG_LEVEL": "ERROR",
        }
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", env=env, stdout=PIPE, stderr=DEVNULL
        )
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), 15)
        try:
            yield await start_gateway(ollama_base_urls=[simulator.url], request_timeout=10.0, rate_limit_per_minute=0)
        finally:
            child.kill()
            await child.communicate()


async def explore(port: int, cwd: Path, *options: str) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{port}/openapi.json"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", "8", "--seed", "1", "--max-response-time", "5"]
    # NUL is refused anywhere in a body, also in fields that are otherwise ignored; no schema can say that either.
    command += ["--generation-allow-x00", "false"]
    command += ["--continue-on-failure", "--generation-database", "none", "--no-color", *options]
    child = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=PIPE, stderr=STDOUT)
    try:
        out, _ = await asyncio.wait_for(child.communicate(), LIMIT_S)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, out.decode()[-8000:]


async def test_the_gateway_is_what_it_says_it_is(road: Served, tmp_path: Path) -> None:
    await explore(road.port, tmp_path, "--exclude-path-regex", "|".join(CROSS_FIELD.values()))
    assert (await road.http.get("/health/live")).status_code == 200


@pytest.mark.parametrize("face", CROSS_FIELD)
async def test_so_are_its_faces(road: Served, tmp_path: Path, face: str) -> None:
    paths = ("--include-path-regex", CROSS_FIELD[face], "--exclude-checks", "positive_data_acceptance")
    await explore(road.port, tmp_path, *paths)
    assert (await road.http.get("/health/live")).status_code == 200
