"""What every scenario is given, and the frame most of them share: a stack, a load on it, a sampler, the check."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.client import Sent, ask
from tests.chaos.load import Load
from tests.chaos.oracle import Oracle, oracle
from tests.chaos.sampler import Sampler
from tests.chaos.stack import Stack

Say = Callable[[str], None]


@dataclass(slots=True, frozen=True)
class Campaign:
    """How large a scenario runs, and whom it tells. `short`: the few faults that every test run can afford."""

    seed: int = 1
    short: bool = False
    deep: bool = False
    """A queue of a million jobs in F23, which takes minutes."""
    redis_kills: int = 0
    """So many in F6, in quick succession; 0: as the scenario has it."""
    logs: Path | None = None
    say: Say = lambda _: None

    def size(self, full: int, short: int) -> int:
        return short if self.short else full

    def draw(self, scenario: str) -> random.Random:
        """Chance that is the same for the same seed, whichever scenarios run."""
        return random.Random(f"{scenario} {self.seed}")


@dataclass(slots=True)
class Bench:
    """A running stack with its oracle, and what was sent to it."""

    stack: Stack
    oracle: Oracle
    sampler: Sampler
    sent: list[Sent]
    draw: random.Random
    name: str
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Of the questions asked so far, so that no two are alike."""

    def load(self, per_second: float, **options: Any) -> Load:
        """A load on the first gateway. What it sends is checked at the end."""
        load = Load(
            self.stack.http, lambda: self.stack.gateways[0].url,
            name=self.name, per_second=per_second, draw=self.draw, numbers=self.numbers, **options,
        )  # fmt: skip
        load.sent = self.sent
        return load

    async def until_served(self) -> float:
        """Ask until a question is answered. When that was, monotonic seconds."""
        while True:
            one = Sent(form="chat", prompt=f"{self.name} probe {next(self.numbers)} about rivers [tokens=10]")
            self.sent.append(await ask(self.stack.http, self.stack.gateways[0].url, one))
            if one.complete:
                return time.monotonic()


@asynccontextmanager
async def bench(campaign: Campaign, name: str, **options: Any) -> AsyncIterator[Bench]:
    """A stack without gateways and workers. `options` are those of `Stack`."""
    keep = campaign.logs / name if campaign.logs is not None else None
    sent: list[Sent] = []
    async with Stack(keep=keep, **options) as stack, oracle(stack.http) as right:
        sampler = Sampler(stack, lambda: [one.job_id for one in sent if one.job_id])
        async with sampler:
            yield Bench(stack, right, sampler, sent, campaign.draw(name), name)
