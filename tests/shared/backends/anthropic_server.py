"""A server of the Messages API for tests: it holds requests to the API's rules, and answers with scripted events."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from pydantic import TypeAdapter, ValidationError

from tests.shared.backends.scripted_server import Reply, Script, ScriptedServer, Seen, whole

Event = dict[str, Any]

KEY = "sk-ant-canary-0123456789abcdef"
MESSAGES = "/v1/messages"
VERSIONS = ("2023-06-01", "2026-10-21")
START: Event = {
    "type": "message_start",
    "message": {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-6",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 4,
            "output_tokens": 1,
        },
    },
}
STOP: Event = {"type": "message_stop"}
PING: Event = {"type": "ping"}
# What the official client is typed to send, as models that check.
_TYPED: dict[bool, TypeAdapter[Any]] = {
    True: TypeAdapter(MessageCreateParamsStreaming),
    False: TypeAdapter(MessageCreateParamsNonStreaming),
}


def end(reason: str = "end_turn", output_tokens: int = 7) -> Event:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": output_tokens},
    }


def block(index: int, start: Event, *deltas: Event) -> list[Event]:
    """A block from its start to its stop."""
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[Event]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def tool_use(index: int, name: str, *pieces: str, call_id: str = "toolu_01") -> list[Event]:
    start = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
    return block(index, start, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def thinking(index: int, *pieces: str) -> list[Event]:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return block(index, start, *deltas, {"type": "signature_delta", "signature": "c2lnbmVk"})


def message(*blocks: list[Event], reason: str = "end_turn") -> list[Event]:
    """A whole stream."""
    return [START, PING, *(event for one in blocks for event in one), end(reason), STOP]


def sse(event: Event) -> bytes:
    return f"event: {event['type']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"


def refusal(status: int, kind: str, words: str, extra: str = "") -> Script:
    """A script that answers with the API's error body."""
    body = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_011"}
    return whole(msgspec.json.encode(body), status, f"request-id: req_011\r\n{extra}")


class AnthropicServer(ScriptedServer):
    """`answer` sets what POST /v1/messages says; a request that breaks the API's rules gets 400 instead."""

    async def __aenter__(self) -> AnthropicServer:
        await super().__aenter__()
        return self

    def answer(self, *parts: Event | bytes, cut: bool = False) -> None:
        async def run(reply: Reply) -> None:
            if (complaint := broken_rule(self.requests[-1])) is not None:
                await refusal(400, "invalid_request_error", complaint)(reply)
                return
            await reply.head(content_type="text/event-stream; charset=utf-8", extra="request-id: req_011\r\n")
            for part in parts:
                await reply.chunk(part if isinstance(part, bytes) else sse(part))
            await (reply.end() if not cut else _cut(reply))

        self.scripts[MESSAGES] = run

    def fail(self, script: Script) -> None:
        self.scripts[MESSAGES] = script

    def lists(self, *pages: dict[str, Any]) -> None:
        """Pages of GET /v1/models, one after the other."""
        left = list(pages)

        async def run(reply: Reply) -> None:
            page = left.pop(0) if len(left) > 1 else left[0]
            await whole(msgspec.json.encode(page))(reply)

        self.scripts["/v1/models"] = run

    @property
    def asked(self) -> Any:
        """The body of the latest request."""
        return self.requests[-1].json

    async def _answer(self, seen: Seen, reader: Any, writer: Any) -> None:
        seen.path, _, self.query = seen.path.partition("?")
        await super()._answer(seen, reader, writer)


async def _cut(reply: Reply) -> None:
    reply.cut()


def broken_rule(seen: Seen) -> str | None:
    """The first of the API's rules that a request to /v1/messages breaks; None where it keeps them all."""
    version = seen.headers.get("anthropic-version")
    if version not in VERSIONS:
        return "anthropic-version: header is required"
    body = seen.json
    if version != VERSIONS[0] and (extra := body.keys() & {"temperature", "top_p", "top_k"}):
        return f"{min(extra)}: Extra inputs are not permitted"
    try:
        _TYPED[bool(body.get("stream"))].validate_python(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if not 0 <= body.get("temperature", 0) <= 1:
        return "temperature: range: 0..1"
    budget = body.get("thinking", {}).get("budget_tokens")
    if budget is not None and not 1024 <= budget < body["max_tokens"]:
        return "thinking.budget_tokens: must be at least 1024 and less than max_tokens"
    return _broken_turns([_blocks(turn) for turn in body["messages"]])


def _blocks(turn: Event) -> tuple[str, list[Event]]:
    content = turn["content"]
    return turn["role"], [{"type": "text", "text": content}] if isinstance(content, str) else cast(list[Event], content)


def _broken_turns(turns: list[tuple[str, list[Event]]]) -> str | None:
    if turns[0][0] != "user":
        return "messages: first message must use the user role"
    awaited: set[str] = set()
    for at, (role, blocks) in enumerate(turns):
        if not blocks or any(one["type"] == "text" and not one["text"].strip() for one in blocks):
            return f"messages.{at}: text content blocks must contain non-whitespace text"
        answered = [one["tool_use_id"] for one in blocks if one["type"] == "tool_result"]
        if set(answered) != awaited or len(answered) != len(awaited):
            return f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after"
        if any(one["type"] != "tool_result" for one in blocks[: len(answered)]):
            return f"messages.{at}: tool results must come first"
        awaited = {one["id"] for one in blocks if one["type"] == "tool_use"} if role == "assistant" else set()
        if not all(re.fullmatch(r"[A-Za-z0-9_-]+", one) for one in awaited):
            return f"messages.{at}: String should match pattern '^[a-zA-Z0-9_-]+$'"
    return None
