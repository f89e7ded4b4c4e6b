"""The simulator as a process: its command line, its one line of output, its end, its speed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

COMMAND = (sys.executable, "-m", "infra.simulator")
SPEED_FLOOR = 300
"""Chats a second that even a busy machine must reach; an idle core does well over 1,000."""


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=PIPE, stderr=PIPE)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def url_of(child: Process) -> str:
    assert child.stdout is not None
    line = (await asyncio.wait_for(child.stdout.readline(), 20)).decode()
    assert line.startswith("simulator listening on http://127.0.0.1:")
    return line.split()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_at_once_even_with_an_answer_under_way(number: signal.Signals) -> None:
    async with process("--port", "0", "--load-seconds", "0", "--models", "tiny") as child:
        url = await url_of(child)
        async with aiohttp.ClientSession() as session:
            body = {"model": "tiny", "prompt": "x [tokens=100000]"}
            async with session.post(url + "/api/generate", json=body) as answer:
                assert await answer.content.readline()
                child.send_signal(number)
                started = time.perf_counter()
                assert await asyncio.wait_for(child.wait(), 5) == 0
                assert time.perf_counter() - started < 2
                with pytest.raises(aiohttp.ClientError):
                    await answer.read()


async def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    async with process("--port", "0") as first:
        port = (await url_of(first)).rpartition(":")[2]
        async with process("--port", port) as second:
            _, errors = await second.communicate()
            assert second.returncode == 1 and b"--port 0" in errors


async def test_help_lists_faults_and_directives() -> None:
    async with process("--help") as child:
        text, _ = await child.communicate()
    for word in (b"--tokens-per-second", b"/_sim/faults", b"x-sim-fault", b"[tokens=500]", b"embedding_nan"):
        assert word in text


@pytest.mark.parametrize("arguments", [("--parallel", "0"), ("--keep-alive", "5x"), ("--jitter", "2")])
async def test_bad_arguments_are_refused(arguments: tuple[str, str]) -> None:
    async with process(*arguments) as child:
        _, errors = await child.communicate()
        assert child.returncode == 2 and b"error:" in errors


async def test_without_delays_it_is_fast() -> None:
    free = ("--load-seconds", "0", "--first-token-seconds", "0", "--tokens-per-second", "0")
    async with process("--port", "0", *free) as child:
        url = await url_of(child)
        body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hello"}]}
        numbers = iter(range(1000))

        async def work(session: aiohttp.ClientSession) -> None:
            for _ in numbers:
                async with session.post(url + "/api/chat", json=body) as answer:
                    assert b'"done":true' in await answer.read()

        async with aiohttp.ClientSession() as session:
            await work_once(session, url, body)
            started = time.perf_counter()
            await asyncio.gather(*(work(session) for _ in range(16)))
            assert 1000 / (time.perf_counter() - started) > SPEED_FLOOR


async def work_once(session: aiohttp.ClientSession, url: str, body: object) -> None:
    """Get the load out of the way."""
    async with session.post(url + "/api/chat", json=body) as answer:
        await answer.read()
