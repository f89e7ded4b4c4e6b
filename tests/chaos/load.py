"""A steady stream of requests, at a rate rather than by a number of clients: who waits for an orphaned job must not
slow down the others.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Mapping

import aiohttp

from tests.chaos.client import Form, Sent, ask

MIX: dict[Form, int] = {"chat": 50, "stream": 25, "job": 12, "embedding": 7, "embedding_job": 6}
SHORTEST_TOKENS, LONGEST_TOKENS = 20, 80
"""100 to 400 ms at the simulator's speed."""


class Load:
    """`async with Load(...) as load`: sends until the block ends, then waits for every answer."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        target: Callable[[], str],
        *,
        name: str,
        per_second: float,
        draw: random.Random,
        tokens: tuple[int, int] = (SHORTEST_TOKENS, LONGEST_TOKENS),
        mix: Mapping[Form, int] = MIX,
        headers: Mapping[str, str] | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.sent: list[Sent] = []
        self.per_second = per_second
        """May be changed while it runs."""
        self._http = http
        self._target = target
        self._name = name
        self._numbers = numbers or itertools.count()
        self._mix = mix
        self._headers = headers
        self._draw = draw
        self._tokens = tokens
        self._requests: set[asyncio.Task[Sent]] = set()
        self._sender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Load:
        self._sender = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        if kind is not None:
            # Interrupted: nobody is interested in the answers any more.
            for request in self._requests:
                request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=kind is not None)

    async def _send(self) -> None:
        forms, weights = list(self._mix), list(self._mix.values())
        while True:
            (form,) = self._draw.choices(forms, weights)
            # Unlike any other, so that an answer to somebody else's question is noticed.
            prompt = (
                f"{self._name} question {next(self._numbers)} about rivers [tokens={self._draw.randint(*self._tokens)}]"
            )
            sent = Sent(form=form, prompt=prompt)
            self.sent.append(sent)
            task = asyncio.create_task(ask(self._http, self._target(), sent, self._headers))
            self._requests.add(task)
            task.add_done_callback(self._forget)
            await asyncio.sleep(self._draw.expovariate(self.per_second))

    def _forget(self, task: asyncio.Task[Sent]) -> None:
        """Let go of an answered request; one that failed in an unforeseen way is kept, and raises at the end."""
        if not task.cancelled() and task.exception() is None:
            self._requests.discard(task)
