"""One answer in time: load, slot, prompt, tokens. Faces only say how each part looks on the wire."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from infra.simulator.exchange import Exchange
from infra.simulator.failures import RUNNER_DIED_TEXT
from infra.simulator.generation import Plan, make_plan
from infra.simulator.pacing import Pace
from infra.simulator.requests import TextRequest
from infra.simulator.scheduler import Scheduler
from infra.simulator.settings import SimulatorSettings
from infra.simulator.wire import LineStream, drip_gap_s, send_whole, strike_stream


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in nanoseconds. `total` covers the others and the wait for a slot."""

    total: int
    load: int
    prompt: int
    eval: int


class Face(Protocol):
    """How an answer looks. Every method returns whole lines (or whole SSE events)."""

    content_type: str

    def opening(self, plan: Plan) -> bytes:
        """Sent before the first token; may be empty."""

    def pieces(self, plan: Plan, start: int, stop: int) -> bytes:
        """Tokens `start` up to `stop`, a line for each."""

    def tool_calls(self, plan: Plan) -> bytes:
        """The tool calls in a line of their own."""

    def final(self, plan: Plan, timing: Timing) -> bytes:
        """What ends a stream."""

    def error_line(self, text: str) -> bytes:
        """How an error in mid-stream comes through."""

    def whole(self, plan: Plan, timing: Timing, *, finished: bool) -> bytes:
        """The answer in one body. Not `finished`: the run broke off without an error, as some do."""


class Answering:
    """Runs text requests on simulated models."""

    def __init__(self, settings: SimulatorSettings, scheduler: Scheduler) -> None:
        self._settings = settings
        self._scheduler = scheduler

    async def answer(self, x: Exchange, request: TextRequest, face: Face) -> web.StreamResponse:
        """Raises ApiError before the first byte; ends early and quietly where a fault says so."""
        settings = self._settings
        plan = make_plan(request, seed=settings.seed, placement=settings.tool_call_placement)
        async with self._scheduler.lease(request.model, request.load, request.keep_alive_s, x.request_id) as runner:
            leased = time.perf_counter()
            async with runner.slot():
                prompted = time.perf_counter()
                if settings.first_token_seconds:
                    await asyncio.sleep(settings.first_token_seconds)
                started = time.perf_counter()
                drip = (
                    drip_gap_s(x.fault) if x.fault is not None and x.fault.kind == "drip" and request.stream else None
                )
                pace = Pace(settings, runner, random.Random(plan.prompt_tokens), drip)

                def timing() -> Timing:
                    now = time.perf_counter()
                    load, prompt, evaluated = leased - x.received, started - prompted, now - started
                    return Timing(*(max(1, int(s * 1e9)) for s in (now - x.received, load, prompt, evaluated)))

                if request.stream:
                    out = LineStream(x, face.content_type)
                    if not await _stream_tokens(x, out, face, plan, pace):
                        return await out.end()
                    final = face.final(plan, timing())
                    if x.fault is not None and x.fault.variant == "duplicate_done" and x.fault.kind == "garbage":
                        final += final
                    await out.write(final)
                    return await out.end()
                await pace.through(plan.eval_count)
                finished = x.fault is None or x.fault.kind != "no_done"
                body = face.whole(plan, timing(), finished=finished)
        return await send_whole(x, body, charset=None if x.is_openai else "utf-8")


async def _stream_tokens(x: Exchange, out: LineStream, face: Face, plan: Plan, pace: Pace) -> bool:
    """Send all but the final line. False: a fault ended the stream."""
    total, done = len(plan.tokens), 0
    strike_at = -1 if x.fault is None else min(x.fault.strike_at, total)
    opening = face.opening(plan)
    while done < total:
        due = await pace.next(done, total)
        if done <= strike_at < due and x.fault is not None:
            if strike_at > done or opening:
                await out.write(opening + face.pieces(plan, done, strike_at))
                opening = b""
            line = face.pieces(plan, strike_at, strike_at + 1)
            if not await strike_stream(x, x.fault, out, line, face.error_line(RUNNER_DIED_TEXT)):
                return False
            done, strike_at = strike_at, -1
        await out.write(opening + face.pieces(plan, done, due))
        opening, done = b"", due
    if plan.tool_calls:
        # The text of a call is held back until it is whole.
        await pace.through(plan.hidden_tokens)
        if not plan.calls_in_final_chunk:
            await out.write(opening + face.tool_calls(plan))
            opening = b""
    if opening:
        await out.write(opening)
    if x.fault is not None and strike_at >= 0:
        line = face.final(plan, Timing(1, 1, 1, 1))
        return await strike_stream(x, x.fault, out, line, face.error_line(RUNNER_DIED_TEXT))
    return True
