"""Canonical requests as the JSON bodies of POST /v1/messages. Pure.

What the API has no word for and what changes nothing about the answer's meaning is left out: seed, penalties, the
options of an Ollama, sampling for a model that takes none. What the caller would miss in the answer is refused: log
probabilities, a place to fill in, a prompt without a template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from shared.backends.anthropic_models import Traits, traits
from shared.backends.anthropic_schema import narrowed
from shared.backends.anthropic_turns import calling_turn, system_text, turns
from shared.errors import BackendRejected
from shared.wire.canonical import ChatRequest, CompletionRequest, Message, Sampling, Think

DEFAULT_MAX_TOKENS = 4096
"""The API wants a limit from every caller; this is for those who set none."""
ANSWER_TOOL = "arriero_answer"
LEAST_BUDGET = 1024
BUDGETS: dict[Think, int] = {"low": 1024, "medium": 4096, True: 8192, "high": 16_384, "max": 32_768}
"""Tokens to think, for the models that are given a number."""


@dataclass(slots=True, frozen=True)
class Sent:
    """A body, and whether the answer will come as the input of `ANSWER_TOOL`."""

    body: bytes
    answers_by_tool: bool


def chat_body(request: ChatRequest) -> Sent:
    """The body of a streamed conversation. Raises BackendRejected for what cannot be expressed."""
    if request.logprobs:
        raise BackendRejected("This service tells no log probabilities. Ask without `logprobs`.", param="logprobs")
    takes = traits(request.model)
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.sampling.max_tokens or DEFAULT_MAX_TOKENS,
        "stream": True,
    }
    if system := system_text(request.messages):
        body["system"] = system
    if request.sampling.stop:
        body["stop_sequences"] = request.sampling.stop
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    by_tool = _set_format(body, request, takes)
    if not by_tool:
        _set_thinking(body, request, takes)
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    body["messages"] = turns(request.messages, thinks=thinks)
    if takes.samples and "thinking" not in body:
        body.update(_sampling(request.sampling))
    return Sent(_encode(body), by_tool)


def completion_body(request: CompletionRequest) -> Sent:
    """The body of a plain prompt, which becomes the only turn. Raises BackendRejected as `chat_body`."""
    if request.suffix:
        raise BackendRejected("This service cannot fill in text before a suffix. Ask without `suffix`.", param="suffix")
    if request.raw:
        raise BackendRejected("This service takes no raw prompts. Ask without `raw`.", param="raw")
    system = [Message(role="system", content=request.system)] if request.system else []
    turn = Message(role="user", content=request.prompt, images=request.images)
    return chat_body(
        ChatRequest(
            model=request.model,
            messages=[*system, turn],
            sampling=request.sampling,
            format=request.format,
            think=request.think,
            logprobs=request.logprobs,
        )
    )


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    sent = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    if description := function.get("description"):
        sent["description"] = description
    return sent


def _set_format(body: dict[str, Any], request: ChatRequest, takes: Traits) -> bool:
    """Ask for JSON where the request does; True when the answer will be a tool's input."""
    if request.format is None:
        return False
    if takes.takes_schema and request.format != "json":
        body["output_config"] = {"format": {"type": "json_schema", "schema": narrowed(request.format)}}
        return False
    if not takes.can_be_made_to_call:
        raise BackendRejected(
            "This model answers in JSON only by a schema. Send one: `response_format` of type `json_schema`.",
            param="response_format",
        )
    schema = {"type": "object"} if request.format == "json" else request.format
    if schema.get("type") != "object":
        raise BackendRejected("The schema of the answer must be that of an object here.", param="response_format")
    answer = {"name": ANSWER_TOOL, "description": "Gives the final answer.", "input_schema": schema}
    choice = {"type": "any"} if request.tools else {"type": "tool", "name": ANSWER_TOOL}
    body["tools"] = [*body.get("tools", ()), answer]
    body["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    return True


def _set_thinking(body: dict[str, Any], request: ChatRequest, takes: Traits) -> None:
    think = request.think
    if think is None:
        return
    if think is False:
        match takes.without_thinking:
            case "disabled" | "between_tools" as word:
                body["thinking"] = {"type": word}
            case "low_effort":
                _set_effort(body, "low")
        return
    if takes.adapts:
        shown = {} if takes.shows_thinking else {"display": "summarized"}
        body["thinking"] = {"type": "adaptive", **shown}
        if isinstance(think, str):
            _set_effort(body, think)
        return
    calling = calling_turn(request.messages)
    if calling is not None and not calling.signature:
        # Such a model goes on thinking only after the very thoughts, signed, that led to the call.
        return
    budget = BUDGETS[think]
    limit = request.sampling.max_tokens
    if limit is None:
        body["max_tokens"] += budget
    elif limit <= LEAST_BUDGET:
        raise BackendRejected(
            f"Thinking takes more than {LEAST_BUDGET} tokens here. Allow more with `max_tokens`, or ask without "
            "thinking.",
            param="max_tokens",
        )
    else:
        budget = min(budget, limit - 1)
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _set_effort(body: dict[str, Any], effort: str) -> None:
    body.setdefault("output_config", {})["effort"] = effort


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """The API's scale of temperature ends at 1, and its newer models take temperature or top_p, not both."""
    sent: dict[str, Any] = {}
    if sampling.temperature is not None:
        sent["temperature"] = min(1.0, max(0.0, sampling.temperature))
    elif sampling.top_p is not None:
        sent["top_p"] = sampling.top_p
    top_k = sampling.options.get("top_k")
    if isinstance(top_k, int) and top_k > 0:
        sent["top_k"] = top_k
    return sent


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise BackendRejected("The request holds a value that cannot be sent as JSON.") from exc
