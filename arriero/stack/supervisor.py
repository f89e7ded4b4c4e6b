"""Keeps the children of `arriero up`: starts them, waits until they are ready, restarts what dies, stops in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import httpx

from arriero.stack.child import Child, describe_exit
from arriero.stack.restarts import RestartBudget
from arriero.stack.terminal import Terminal

POLL_S = 0.05
READY_AGAIN_S = 30.0
LAST_LINES_SHOWN = 6


class StackFailed(Exception):
    """The stack cannot go on; the text is one line that says what to do."""


@dataclass(slots=True)
class Member:
    """A child and how to treat it. Members of one `stop_rank` stop together, lower ranks first."""

    child: Child
    stop_rank: int
    grace_s: float
    ready_path: str = "/health/ready"
    """Empty: ready as soon as it runs (its caller knows better)."""
    budget: RestartBudget = field(default_factory=RestartBudget)


class Supervisor:
    """`on_change` is called when a process is replaced, so that others learn its new pid."""

    def __init__(self, terminal: Terminal, on_change: Callable[[], None]) -> None:
        self.members: list[Member] = []
        self._terminal = terminal
        self._on_change = on_change
        self._stopping = False

    def __getitem__(self, name: str) -> Child:
        return next(member.child for member in self.members if member.child.name == name)

    async def start(self, member: Member) -> None:
        self.members.append(member)
        await member.child.start()

    async def wait_ready(self, members: Sequence[Member], timeout_s: float) -> None:
        """Raises StackFailed when a member ends or is not ready in time."""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
            await _together(self._wait_ready(http, member, timeout_s) for member in members)

    async def watch(self) -> None:
        """Restart what ends. Returns never; raises StackFailed when something ends again and again."""
        await _together(self._watch(member) for member in self.members)

    async def stop(self) -> None:
        """Everything, rank by rank. Stopping twice is fine."""
        self._stopping = True
        for rank in sorted({member.stop_rank for member in self.members}):
            await asyncio.gather(*(m.child.stop(m.grace_s) for m in self.members if m.stop_rank == rank))

    def kill(self) -> None:
        self._stopping = True
        for member in self.members:
            if member.child.process is not None:
                member.child.kill()

    async def _wait_ready(self, http: httpx.AsyncClient, member: Member, timeout_s: float) -> None:
        child = member.child
        give_up_at = time.monotonic() + timeout_s
        seen = "it did not say where it listens"
        while True:
            if not child.is_running:
                raise StackFailed(_obituary(child, await child.ended()))
            if child.url:
                try:
                    response = await http.get(child.url + member.ready_path)
                    if response.status_code == 200:
                        return
                    seen = f"{member.ready_path} says {response.status_code}: {response.text[:300]}"
                except httpx.TransportError as exc:
                    seen = f"{child.url} does not answer: {exc}"
            if time.monotonic() > give_up_at:
                raise StackFailed(f"{child.name} was not ready after {timeout_s:g} s: {seen}")
            await asyncio.sleep(POLL_S)

    async def _watch(self, member: Member) -> None:
        child = member.child
        while True:
            status = await child.ended()
            if self._stopping:
                return
            if not member.budget.take(time.monotonic()):
                raise StackFailed(
                    f"{child.name} ended {member.budget.limit + 1} times within {member.budget.window_s:g} s: "
                    + _obituary(child, status)
                )
            self._terminal.say(
                f"{child.name} (pid {child.pid}) ended unexpectedly, {describe_exit(status)}: restarting it"
            )
            # Its own children, if it had any, must not go on beside the new ones.
            child.kill()
            await child.start()
            self._on_change()
            try:
                if member.ready_path:
                    await self.wait_ready([member], READY_AGAIN_S)
            except StackFailed as exc:
                # If it ended again the next turn of the loop counts it; if it is only slow, it may still get there.
                self._terminal.say(str(exc))
            else:
                self._terminal.say(f"{child.name} is back, pid {child.pid}")
                self._on_change()


async def _together(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all; the first to fail cancels the others, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _obituary(child: Child, status: int) -> str:
    said = "\n    ".join(list(child.last_lines)[-LAST_LINES_SHOWN:])
    return f"{child.name} ended, {describe_exit(status)}" + (f"; its last words:\n    {said}" if said else "")
