"""`arriero mcp`: the MCP SDK's own client starts it, as an editor would, and works with its tools on a real stack."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent

from tests.conftest import WaitUntil
from tests.house.redis_server import free_port
from tests.integration.processes import clean_environment
from tests.integration.stack import LONG, Stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.gateway()
        stack.worker()
        stack.wait()
        yield stack


def connected(url: str) -> Client:
    """Entered in the test itself: it may only be left by the task that entered it, and a fixture is left by another."""
    environment = clean_environment({"ARRIERO_URL": url})
    command = StdioServerParameters(command=sys.executable, args=["-m", "arriero", "mcp"], env=environment, cwd="/")
    return Client(stdio_client(command))


async def outcome(client: Client, tool: str, **arguments: Any) -> Any:
    """What the tool gave back as data. Raises AssertionError when it failed."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, said(result)
    return result.structured_content


def said(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextContent))


@pytest.mark.req("S3-49")
async def test_every_tool(stack: Stack) -> None:
    async with connected(stack.url) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"chat", "embed", "submit_job", "job_status", "list_models"}
        assert all(tool.description and tool.output_schema for tool in tools.values())

        models = (await outcome(client, "list_models"))["result"]
        assert "llama3.2:latest" in models
        answer = await outcome(client, "chat", prompt="Why do llamas hum?", system="be brief")
        assert "Why do llamas hum" in answer["text"]
        assert answer["model"] in models
        vectors = (await outcome(client, "embed", texts=["a llama", "an invoice"]))["vectors"]
        assert [len(vector) for vector in vectors] == [768, 768]

        request = {"model": "llama3.2", "messages": [{"role": "user", "content": "Tell me about the Andes"}]}
        job = await outcome(client, "submit_job", type="chat.completion", request=request)
        ended = await outcome(client, "job_status", job_id=job["job_id"], wait_seconds=20)
        assert (ended["finished"], ended["status"]) == (True, "succeeded")
        assert "Andes" in ended["text"]
        assert (await outcome(client, "job_status", job_id=answer["job_id"]))["status"] == "succeeded"


async def test_a_failure_is_one_line_for_the_model_to_read(stack: Stack) -> None:
    async with connected(stack.url) as client:
        unknown = await client.call_tool("chat", {"prompt": "hello", "model": "llama3.3"})
        assert unknown.is_error
        assert "Did you mean llama3.2" in said(unknown)
        nobody = await client.call_tool("job_status", {"job_id": "job_" + "0" * 32})
        assert nobody.is_error
        assert "job" in said(nobody)
        wrong = await client.call_tool("chat", {"prompt": ""})
        assert wrong.is_error
        assert said(wrong) == "the arguments do not fit: prompt: String should have at least 1 character"
        several = await client.call_tool("job_status", {"wait_seconds": 1000})
        assert several.is_error
        assert re.fullmatch("the arguments do not fit: job_id: [^\n]+; wait_seconds: [^\n]+", said(several))


async def test_an_unfinished_job_is_told_as_it_stands(stack: Stack) -> None:
    async with connected(stack.url) as client:
        request = {"model": "llama3.2", "messages": [{"role": "user", "content": f"Count the stones {LONG}"}]}
        job = await outcome(client, "submit_job", type="chat.completion", request=request)
        seen = await outcome(client, "job_status", job_id=job["job_id"], wait_seconds=0.1)
        with stack.http() as http:
            http.delete(f"/v1/jobs/{job['job_id']}")
        assert not seen["finished"]
        ended = await outcome(client, "job_status", job_id=job["job_id"], wait_seconds=10)
        assert (ended["status"], ended["text"]) == ("cancelled", None)


async def test_a_call_that_is_given_up_cancels_its_job(stack: Stack, wait_until: WaitUntil) -> None:
    async with connected(stack.url) as client:
        before = {call["request_id"] for call in stack.simulator.calls()}
        call = asyncio.create_task(
            client.call_tool("chat", {"prompt": f"Count the stones {LONG}", "model": "llama3.2"})
        )
        await wait_until(
            lambda: {c["request_id"] for c in stack.simulator.calls()} - before, description="call upstream"
        )
        (job,) = {c["request_id"] for c in stack.simulator.calls()} - before
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await wait_until(lambda: stack.simulator.was_cancelled(job), description="call upstream broken off")


async def test_a_gateway_that_is_away() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with connected(nowhere) as client:
        refused = await client.call_tool("list_models", {})
    assert refused.is_error
    assert nowhere in said(refused)
    assert "make run" in said(refused)


def test_without_the_sdk_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['mcp'] = None; sys.argv = ['arriero', 'mcp']; from arriero.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 78
    assert "pip install 'arriero[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr
