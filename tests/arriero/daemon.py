"""A service of ours as a child process, found by the line in which it says where it listens."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

PROJECT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(rb"listening on (http://\S+)")


class Daemon:
    """Started on entering; on leaving it gets SIGTERM, and `status` is how it ended."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._argv = argv
        self._environment = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
        self.url = ""
        self.status: int | None = None
        self.output = b""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            await asyncio.wait_for(self._wait_listening(), 30)
        except BaseException:
            self._process.kill()
            await self._process.wait()
            raise
        self._rest = asyncio.create_task(self._read_rest())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._process.terminate()
        try:
            self.status = await asyncio.wait_for(self._process.wait(), 10)
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await self._rest

    async def _wait_listening(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.output += line
            if found := LISTENING.search(line):
                self.url = found[1].decode()
                return
        raise AssertionError(f"it ended: {self.output.decode()}")

    async def _read_rest(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.output += line
