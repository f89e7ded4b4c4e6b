"""What the simulated model says to a prompt, asked directly and without the time it would take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from infra.simulator.app import running
from tests.chaos.client import Sent
from tests.chaos.stack import CHAT_MODEL, EMBEDDING_MODEL

TOLERANCE = 1e-6
"""Between a float32 that travelled as binary and one that travelled as text."""


class Oracle:
    """The right answers. A second simulator gives them: its texts depend on the request alone."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def text(self, prompt: str) -> str:
        body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": prompt}], "stream": False}
        answer = await self._post("/api/chat", body)
        text: str = answer["message"]["content"]
        return text

    async def vector(self, prompt: str) -> list[float]:
        answer = await self._post("/api/embed", {"model": EMBEDDING_MODEL, "input": prompt})
        vector: list[float] = answer["embeddings"][0]
        return vector

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._http.post(self._url + path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def fault(self, sent: Sent) -> str:
        """What is wrong with what this client got; empty if nothing is.

        A stream that ended in an error must still be the beginning of the one answer.
        """
        if sent.form in ("embedding", "embedding_job"):
            right = await self.vector(sent.prompt)
            near = len(right) == len(sent.vector) and all(
                abs(a - b) <= TOLERANCE for a, b in zip(right, sent.vector, strict=True)
            )
            return "" if near else "another vector"
        text = await self.text(sent.prompt)
        if sent.complete:
            return "" if sent.text == text else f"text {sent.text[:60]!r} instead of {text[:60]!r}"
        if not sent.error:
            return "a stream that ended without [DONE] and without an error"
        return "" if text.startswith(sent.text) else "a broken-off stream that is no beginning of the answer"


@asynccontextmanager
async def oracle(http: aiohttp.ClientSession) -> AsyncIterator[Oracle]:
    """An oracle for the length of the block."""
    async with running(tokens_per_second=0, first_token_seconds=0, load_seconds=0, embedding_seconds=0) as simulator:
        yield Oracle(http, simulator.url)
