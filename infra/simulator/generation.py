"""What the simulated model says to a request: a pure function of model, messages, options and seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from infra.simulator import text
from infra.simulator.failures import ApiError, runner_error
from infra.simulator.json_schema import Sampler, SchemaError
from infra.simulator.names import stem
from infra.simulator.requests import TextRequest, Turn
from infra.simulator.tools import ToolCall, choose_calls

TOKENS_PER_TURN = 4
"""What a chat template adds around each message."""
TOKENS_PER_IMAGE = 768
CONTEXTS_PER_ANSWER = 10
"""Ollama stops an answer at this many times the context."""
_THINKING_TOKENS = {"low": 8, "medium": 20, "high": 32, "max": 48}


@dataclass(slots=True)
class Plan:
    """A whole answer, before any time has passed. The first `thinking` of `tokens` are thoughts, the rest content."""

    tokens: list[str]
    thinking: int
    done_reason: Literal["stop", "length"]
    prompt_tokens: int
    tool_calls: list[ToolCall] = field(default_factory=list)
    calls_in_final_chunk: bool = False
    hidden_tokens: int = 0
    """Generated but never shown as text: those that spell tool calls."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """One per token; empty when not asked for."""

    @property
    def eval_count(self) -> int:
        return len(self.tokens) + self.hidden_tokens

    @property
    def content_text(self) -> str:
        return "".join(self.tokens[self.thinking :])

    @property
    def thinking_text(self) -> str:
        return "".join(self.tokens[: self.thinking])


def make_plan(request: TextRequest, *, seed: int, placement: str) -> Plan:
    """Raises ApiError 400 when the prompt is too long and may not be cut, or a schema cannot be followed."""
    turns, prompt_tokens = _fitted(request)
    draw = random.Random(_fingerprint(request, seed))
    thoughts = _thoughts(request, draw)
    try:
        calls = _tool_calls(request, draw)
        content, spelled = ([], _spelled(calls)) if calls else (_content(request, turns, draw), 0)
    except SchemaError as exc:
        raise runner_error(400, str(exc)) from None
    reason: Literal["stop", "length"] = "stop"
    if content and (before := text.cut_at_stop(content, request.options.get("stop") or [])) is not None:
        content = before
    limit = _limit(request, prompt_tokens)
    if len(thoughts) + len(content) + spelled > limit:
        reason = "length"
        # A call cut short is not a call.
        calls, spelled = [], 0
        thoughts, content = thoughts[:limit], content[: max(0, limit - len(thoughts))]
    tokens = [*thoughts, *content]
    final = request.model.calls_tools_in_final_chunk if placement == "by-model" else placement == "final"
    logprobs = [] if request.top_logprobs is None else [_logprob(token, request.top_logprobs, draw) for token in tokens]
    return Plan(tokens, len(thoughts), reason, prompt_tokens, calls, final, spelled, logprobs)


def context_ids(request: TextRequest, plan: Plan) -> list[int]:
    """The deprecated `context` of /api/generate: stable numbers for the tokens of prompt and answer."""
    said = "".join(turn.content for turn in request.turns)
    return [sum(token.encode("utf-8", "replace")) * 37 % 32_000 for token in [*text.tokenise(said), *plan.tokens]]


def _fingerprint(request: TextRequest, seed: int) -> int:
    asked = [(turn.role, turn.content, turn.images) for turn in request.turns]
    material = msgspec.json.encode(
        [request.model.name, asked, sorted(request.options.items()), request.tools, request.format, seed]
    )
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big")


def _cost(turn: Turn) -> int:
    return text.count_tokens(turn.content) + TOKENS_PER_TURN + TOKENS_PER_IMAGE * turn.images


def _fitted(request: TextRequest) -> tuple[list[Turn], int]:
    """The turns that fit the context, and their tokens: oldest go first, system messages and the last one stay."""
    limit = request.load.num_ctx
    costs = [_cost(turn) for turn in request.turns]
    total = sum(costs)
    if total <= limit:
        return request.turns, total
    if not request.truncate:
        raise runner_error(
            400,
            f"request ({total} tokens) exceeds the available context size ({limit} tokens), try increasing it",
            "exceed_context_size_error",
            n_prompt_tokens=total,
            n_ctx=limit,
        )
    kept = list(zip(request.turns, costs, strict=True))
    while (
        total > limit
        and (oldest := next((at for at, (turn, _) in enumerate(kept[:-1]) if turn.role != "system"), None)) is not None
    ):
        total -= kept.pop(oldest)[1]
    if total > limit:
        if not request.load.shift:
            raise ApiError(
                400,
                "the prompt is longer than the context length currently available to the model; shorten the prompt, "
                "or raise num_ctx",
            )
        # The middle of the last message is cut, to about half of the context.
        total = max(1, limit // 2)
    return [turn for turn, _ in kept], total


def _thoughts(request: TextRequest, draw: random.Random) -> list[str]:
    if not request.model.can("thinking") or request.think is False:
        return []
    length = _THINKING_TOKENS[request.think] if isinstance(request.think, str) else _THINKING_TOKENS["medium"]
    return text.compose("Simulated thinking, no model ran:", length, draw)


def _tool_calls(request: TextRequest, draw: random.Random) -> list[ToolCall]:
    # A conversation that ends with a tool's result wants an answer, not another call.
    if not request.tools or (request.turns and request.turns[-1].role == "tool"):
        return []
    return choose_calls(request.tools, request.prompt, draw)


def _spelled(calls: list[ToolCall]) -> int:
    return sum(text.count_tokens(msgspec.json.encode([call.name, call.arguments]).decode()) for call in calls)


def _content(request: TextRequest, turns: list[Turn], draw: random.Random) -> list[str]:
    name, prompt = stem(request.model.name), request.prompt
    echoed = text.echo(prompt)
    if isinstance(request.format, dict):
        value = Sampler(request.format, draw, echoed.split()).value()
        return text.tokenise(msgspec.json.encode(value).decode())
    if request.format == "json":
        answer = {"simulated": True, "model": name, "answer": f"Simulated answer to: {echoed}"}
        return text.tokenise(msgspec.json.encode(answer).decode())
    opening = f'Simulated answer from {name} to "{echoed}".'
    if images := sum(turn.images for turn in turns):
        opening += f" It came with {images} image{'s' if images > 1 else ''}."
    if results := [turn.content for turn in turns if turn.role == "tool"]:
        opening += f' A tool said "{text.echo(results[-1])}".'
    return text.compose(opening, text.asked_length(prompt) or draw.randint(text.SHORTEST, text.LONGEST), draw)


def _limit(request: TextRequest, prompt_tokens: int) -> int:
    """The most tokens the answer may have."""
    limit = CONTEXTS_PER_ANSWER * request.load.num_ctx
    if not request.load.shift:
        limit = max(1, request.load.num_ctx - prompt_tokens)
    asked = request.options.get("num_predict", -1)
    return min(limit, asked) if asked > 0 else limit


def _logprob(token: str, alternatives: int, draw: random.Random) -> dict[str, Any]:
    value = -round(draw.random() * 0.7, 6)
    entry = _scored(token, value)
    if alternatives:
        others = [_scored(f" other{rank}", value - rank) for rank in range(1, alternatives)]
        entry["top_logprobs"] = [_scored(token, value), *others]
    return entry


def _scored(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
